// Writes src/abi/fingerprint.ts from the constants that the other files of src/abi/ export.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../src/abi', import.meta.url));
const target = join(folder, 'fingerprint.ts');

const files = readdirSync(folder)
  .filter((name) => name.endsWith('.ts') && name !== 'fingerprint.ts')
  .sort()
  .map((name) => ({
    name,
    constants: [...readFileSync(join(folder, name), 'utf8').matchAll(/^export const (\w+)/gm)].map((m) => m[1]),
  }));

const head = readFileSync(target, 'utf8').split('import ')[0];
const body = readFileSync(target, 'utf8').match(/\n\/\*\* Folds[\s\S]*?let h[^\n]*\n/)?.[0];
if (!body) throw new Error(`${target} does not look as expected`);

const imports = files.map(({ name, constants }) => `import { ${constants.join(', ')} } from './${name}';\n`).join('');
const mixes = files.flatMap(({ constants }) => constants.map((name) => `  h = mix(h, ${name});\n`)).join('');
writeFileSync(target, `${head}${imports}${body}${mixes}  return h;\n}\n`);
execFileSync('npx', ['biome', 'check', '--write', target], { stdio: 'inherit' });
