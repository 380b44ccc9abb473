// A Chromium to test in, and pages that report everything that goes wrong in them.

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

/** $CHROMIUM, or `chromium` on the path; null where there is none. */
export const executablePath = process.env['CHROMIUM'] ?? onPath('chromium');

function onPath(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // not in this folder
    }
  }
  return null;
}

export function launch(): Promise<Browser> {
  if (executablePath === null) throw new Error('no Chromium: install it or name it in $CHROMIUM');
  const quiet = ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'];
  return chromium.launch({
    executablePath,
    args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', ...quiet],
  });
}

export interface Visit {
  readonly page: Page;
  /** what the page wrote as an error, threw, or could not load */
  readonly errors: string[];
}

export async function visit(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') errors.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => errors.push(`thrown: ${error.message}`));
  page.on('requestfailed', (request) => errors.push(`not loaded: ${request.url()}`));
  await page.goto(url);
  return { page, errors };
}
