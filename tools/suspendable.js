// A trace kernel whose calls can stop before each shared access and go on later: transformed by Binaryen's Asyncify.

import binaryen from 'binaryen';

/**
 * @param {Uint8Array} kernel
 * @param {number} optimizeLevel 3 runs fastest, 1 is built fastest
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function suspendable(kernel, optimizeLevel = 3) {
  const module = binaryen.readBinary(kernel);
  binaryen.setOptimizeLevel(optimizeLevel);
  binaryen.setShrinkLevel(0);
  binaryen.setPassArgument('asyncify-imports', 'env.onStep,env.onWait');
  module.runPasses(['asyncify']);
  module.optimize();
  const bytes = new Uint8Array(module.emitBinary());
  module.dispose();
  return bytes;
}
