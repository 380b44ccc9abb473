// The demo page in a real browser: what a visitor sees, clicks and reads, with isolation headers and without.

import { mkdirSync } from 'node:fs';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { executablePath, launch, type Visit, visit } from './chromium.ts';
import { buildPage, type Site, serveDev, serveFolder, servePreview } from './site.ts';

const PICTURES = 'build/screenshots';
const LEFT_OUT = 'browser tests left out: no Chromium found (install chromium or set CHROMIUM)';
/** Long enough for a busy machine; conditions are polled, so a quick one does not wait. */
const patience = { timeout: 15_000, interval: 50 };

let browser: Browser;
let visited: Visit | null = null;

async function open(site: Site, options: Parameters<typeof visit>[2] = {}): Promise<Page> {
  visited = await visit(browser, site.url, options);
  return visited.page;
}

const text = async (page: Page, name: string): Promise<string> => (await page.getByTestId(name).textContent()) ?? '';
const count = async (page: Page, name: string): Promise<number> =>
  Number((await text(page, name)).replaceAll(/[^\d.]/g, ''));
const waitFor = (read: () => Promise<unknown>) => expect.poll(read, patience);

/** Until `n` more events were sent. */
async function sendMore(page: Page, n: number): Promise<void> {
  const before = await count(page, 'sent');
  await waitFor(() => count(page, 'sent')).toBeGreaterThan(before + n);
}

/** Stops the load; then every event is accounted for, with `waiting` of them behind their masks. */
async function stopAndBalance(page: Page, waiting: number): Promise<void> {
  await page.getByTestId('run').click();
  expect(await text(page, 'run')).toBe('Start');
  await waitFor(() => imbalance(page, waiting)).toBe('');
  expect(await text(page, 'lost')).toBe('0');
}

/** What is wrong between the counters and the last audit, read in one moment; nothing once the load stands still. */
async function imbalance(page: Page, waiting: number): Promise<string> {
  const names = ['sent', 'delivered', 'coalesced', 'held', 'books', 'sum'];
  const texts = await page.evaluate(
    (wanted) => wanted.map((name) => document.querySelector(`[data-testid="${name}"]`)?.textContent ?? ''),
    names,
  );
  const [sent, delivered, coalesced, held, books, sum] = texts.map((value) => value.replaceAll(',', ''));
  const raised = Number(delivered) + Number(held);
  const found = `${books} ${sum}; ${Number(coalesced) + raised} counted`;
  const expected = `last after ${sent} sends: ${raised} raised = ${raised - waiting} taken + ${waiting} waiting behind a mask; ${sent} counted`;
  return found.endsWith(expected) ? '' : `${found} instead of ${expected}`;
}

/** Chooses a port by its cell: 64 to a row, after room for numbers, selector and names. */
async function clickCell(page: Page, port: number): Promise<void> {
  const canvas = page.getByTestId('picture');
  const cell = Math.floor((await canvas.evaluate((element: HTMLCanvasElement) => element.width)) / 70.5);
  await canvas.click({ position: { x: (6.5 + (port % 64)) * cell, y: (3.5 + Math.floor(port / 64)) * cell } });
  await waitFor(() => page.getByTestId('port').inputValue()).toBe(String(port));
}

/** How many different colours the picture has. */
function colours(page: Page): Promise<number> {
  return page.getByTestId('picture').evaluate((canvas: HTMLCanvasElement) => {
    const image = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(image?.data.buffer ?? new ArrayBuffer(0))).size;
  });
}

/** The same walk through the page in both modes. */
function walk(site: () => Site, workers: boolean): void {
  test('counts and draws without a click, says in which mode, and loses nothing', async () => {
    const page = await open(site());
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(workers);
    expect(await text(page, 'mode')).toMatch(
      workers ? /^Two workers over one shared memory/ : /^This page is not cross-origin isolated, [^.]*one thread\.$/,
    );
    await sendMore(page, 50_000);
    for (const name of ['sent', 'delivered', 'coalesced', 'upcalls', 'upcalls-rate']) {
      await waitFor(() => count(page, name)).toBeGreaterThan(0);
    }
    if (workers) await waitFor(() => count(page, 'wakes')).toBeGreaterThan(0);
    else expect(await text(page, 'per-wake')).toBe('nobody sleeps');
    expect(await colours(page)).toBeGreaterThan(8);
    await stopAndBalance(page, 0);
    await page.getByTestId('run').click();
    await sendMore(page, 1000);
  });

  test('the sliders go from single sends to batches of 4,096, as fast as possible', async () => {
    const page = await open(site());
    await page.getByTestId('rate').fill('5');
    expect(await text(page, 'rate-value')).toBe('as fast as possible');
    for (const [stop, label] of [
      ['0', '1, single sends'],
      ['6', '64'],
      ['12', '4,096'],
    ] as const) {
      await page.getByTestId('batch').fill(stop);
      expect(await text(page, 'batch-value')).toBe(label);
      await sendMore(page, 200_000);
    }
    if (workers) {
      await page.getByTestId('spin').check();
      await sendMore(page, 200_000);
    }
    await waitFor(() => count(page, 'coalesced')).toBeGreaterThan(0);
    await stopAndBalance(page, 0);
  });

  test('a port masked under fire stays pending and is delivered by the unmask', async () => {
    const port = 20 * 64 + 32;
    const page = await open(site());
    await page.getByTestId('rate').fill('4');
    await clickCell(page, port);
    await waitFor(() => count(page, 'port-taken')).toBeGreaterThan(0);
    await page.getByTestId('mask').click();
    await waitFor(() => text(page, 'mask')).toBe(`Unmask port ${port}`);
    await waitFor(() => text(page, 'port-pending')).toBe('1');
    await sendMore(page, 70_000);
    const taken = await count(page, 'port-taken');
    // Every port comes at least once in 65,520 sends.
    await sendMore(page, 140_000);
    expect(await count(page, 'port-taken')).toBe(taken);
    expect(await text(page, 'port-pending')).toBe('1');
    // Set behind the mask once; or not at all, when the click met the port between a send and its drain.
    expect(await count(page, 'held')).toBeLessThanOrEqual(1);
    await page.screenshot({ path: `${PICTURES}/masked-${await mode(page)}.png` });

    await stopAndBalance(page, 1);
    expect(await text(page, 'port-pending')).toBe('1');
    await page.getByTestId('mask').click();
    await waitFor(() => text(page, 'port-pending')).toBe('0');
    await waitFor(() => count(page, 'port-taken')).toBe(taken + 1);
    expect(await text(page, 'port-story')).toContain('raised again and delivered');
    await waitFor(() => imbalance(page, 0)).toBe('');
    expect(await text(page, 'lost')).toBe('0');
  });

  test('postMessage gets the same events, one by one or by the batch', async () => {
    const page = await open(site());
    // Read in one moment: rounds come on.
    const both = async () =>
      (await page.getByTestId(/^(channel|message)-events$/).allTextContents()).map(Number) as [number, number];
    await waitFor(async () => (await both())[1]).toBeGreaterThan(0);
    await waitFor(async () => (await both()).reduce((a, b) => a - b)).toBe(0);
    await page.screenshot({ path: `${PICTURES}/${await mode(page)}-1280-light.png` });
    expect(await text(page, 'ratio')).toMatch(/^[\d.,]+ times (faster|slower)\.$/);
    await page.getByTestId('compare').click();
    expect(await text(page, 'compare')).toBe('Go on');
    const [before] = await both();
    await page.getByTestId('grouped').check();
    await page.getByTestId('compare').click();
    await waitFor(async () => (await both())[1]).toBeGreaterThan(before);
    const [channels, messages] = await both();
    expect(messages).toBe(channels);
    await stopAndBalance(page, 0);
  });

  test('fits into a dark window of 800 pixels', async () => {
    const page = await open(site(), { colorScheme: 'dark', viewport: { width: 800, height: 1000 } });
    await sendMore(page, 50_000);
    await page.screenshot({ path: `${PICTURES}/${await mode(page)}-800-dark.png`, fullPage: true });
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
  });
}

function mode(page: Page): Promise<string> {
  return page.evaluate(() => document.documentElement.dataset['mode'] ?? 'neither');
}

if (executablePath === null) {
  if (process.env['CI']) {
    test('CI runs the browser tests', () => expect.fail('no Chromium found: install chromium or set CHROMIUM'));
  } else {
    console.warn(LEFT_OUT);
    test.skip(LEFT_OUT);
  }
} else {
  describe('the demo page', () => {
    let isolated: Site;
    let plain: Site;

    beforeAll(async () => {
      mkdirSync(PICTURES, { recursive: true });
      await buildPage();
      [isolated, plain, browser] = await Promise.all([servePreview(), serveFolder('/any/folder/'), launch()]);
    });

    afterEach(async () => {
      const { page, errors } = visited ?? {};
      visited = null;
      await page?.context().close();
      expect(errors ?? []).toEqual([]);
    });

    afterAll(async () => {
      await browser?.close();
      await Promise.all([isolated?.close(), plain?.close()]);
    });

    describe('with isolation headers', () => {
      walk(() => isolated, true);

      test('says so when a worker does not load', async () => {
        const { page, errors } = await visit(browser, 'about:blank');
        await page.route('**/sender-*.js', (route) => route.abort());
        await page.goto(isolated.url);
        await waitFor(() => page.getByTestId('failure').isVisible()).toBe(true);
        expect(await text(page, 'failure')).toContain('the sender failed');
        expect(errors.every((error) => /sender|ERR_FAILED/.test(error))).toBe(true);
        await page.context().close();
      });

      test('the development server sends the headers, too', async () => {
        const dev = await serveDev();
        try {
          const page = await open(dev);
          expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
          await sendMore(page, 1000);
          expect(await text(page, 'lost')).toBe('0');
        } finally {
          await visited?.page.context().close();
          await dev.close();
        }
      });
    });

    describe('without isolation headers, from any folder', () => {
      walk(() => plain, false);
    });
  });
}
