// The long runs of the suites in test/soak: `npm run soak -- --minutes N [--only NAME] [--seed S]`. Ends with a table of the promises,
// and with 1 when something has failed.

import { fileURLToPath } from 'node:url';
import { runnerImport } from 'vite';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));

const { module } = await runnerImport('./test/soak/soak.ts', { configFile: false, logLevel: 'error' });
const code = await module.main(process.argv.slice(2), (text) => process.stdout.write(text));
// Threads of a suite that has failed may be left.
process.exit(code);
