// The demo page: `npm run demo` serves it, `npm run build:demo` writes static files that run from any folder.

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

/** Browsers share memory between threads only on pages that are served with these. */
const isolation = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

const project = fileURLToPath(new URL('../..', import.meta.url));

export default defineConfig({
  base: './',
  root: fileURLToPath(new URL('.', import.meta.url)),
  build: { outDir: `${project}build/demo`, emptyOutDir: true },
  // `vite preview` sends the headers of the server, too.
  server: { headers: isolation, fs: { allow: [project] } },
  worker: { format: 'es' },
});
