// A trace kernel whose calls can stop before each shared access and go on later: transformed by Binaryen's Asyncify.

import binaryen from 'binaryen';

/**
 * @param {Uint8Array} kernel
 * @returns {Uint8Array<ArrayBuffer>}
 */
export function suspendable(kernel) {
  const module = binaryen.readBinary(kernel);
  binaryen.setOptimizeLevel(3);
  binaryen.setShrinkLevel(0);
  binaryen.setPassArgument('asyncify-imports', 'env.onStep,env.onWait');
  module.runPasses(['asyncify']);
  module.optimize();
  const bytes = new Uint8Array(module.emitBinary());
  module.dispose();
  return bytes;
}
