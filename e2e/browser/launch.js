// The browser of the tests: a Chromium that is installed, without a window.

import { execFileSync } from 'node:child_process';
import { chromium } from 'playwright-core';

export function launch() {
  const executablePath = process.env.E2E_BROWSER ?? execFileSync('which', ['chromium'], { encoding: 'utf8' }).trim();
  return chromium.launch({ executablePath, args: ['--no-sandbox'] });
}
