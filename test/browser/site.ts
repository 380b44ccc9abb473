// The page as visitors get it: built and served with the isolation headers, without them, and while it is being worked on.

import { createReadStream, existsSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, resolve } from 'node:path';
import { build, createServer, preview } from 'vite';

const configFile = resolve('demo/page/vite.config.ts');
const outDir = resolve('build/browser-test');
const host = '127.0.0.1';

export interface Site {
  readonly url: string;
  close(): Promise<unknown>;
}

/** Built apart from `npm run build:demo`, so that tests never serve what an older run left. */
export async function buildPage(): Promise<void> {
  await build({ configFile, logLevel: 'error', build: { outDir } });
}

/** `vite preview`, which sends the headers of the configuration. */
export async function servePreview(): Promise<Site> {
  const server = await preview({ configFile, logLevel: 'error', build: { outDir }, preview: { host, port: 0 } });
  return { url: address(server.httpServer as Server, '/'), close: () => server.close() };
}

/** `vite dev`, as `npm run demo` starts it. */
export async function serveDev(): Promise<Site> {
  const server = await createServer({ configFile, logLevel: 'error', server: { host, port: 0, watch: null } });
  await server.listen();
  return { url: address(server.httpServer as Server, '/'), close: () => server.close() };
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};

/** A plain file server that knows nothing of isolation, with the page in some folder of it. */
export async function serveFolder(folder: string): Promise<Site> {
  const server = createHttpServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    const name = pathname.endsWith('/') ? `${pathname}index.html` : pathname;
    const file = join(outDir, name.slice(folder.length));
    if (!name.startsWith(folder) || !existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  });
  await new Promise<void>((listening) => server.listen(0, host, listening));
  const close = (): Promise<unknown> => {
    server.closeAllConnections();
    return new Promise((closed) => server.close(closed));
  };
  return { url: address(server, folder), close };
}

function address(server: Server, folder: string): string {
  return `http://${host}:${(server.address() as AddressInfo).port}${folder}`;
}
