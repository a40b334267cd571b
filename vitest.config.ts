import { defineConfig } from 'vitest/config';

/** Two files at once: the tiers below start processes of their own, and a machine of two cores is the smallest that we measure on. */
const WORKERS = 2;

const tiers = {
  /** Pure rules and small parts. */
  unit: [
    'domain',
    'agent',
    'db',
    'secrets',
    'providers-dynamic',
    'components',
    'stacks',
    'sandbox',
    'api',
    'automation',
    'cli',
    'engine',
    'scripts',
    'state',
    'surface',
  ],
  /** Real processes and the simulated world. */
  whole: ['world', 'e2e'],
};

export default defineConfig({
  test: {
    globals: false,
    globalSetup: ['test/support/global-setup.ts'],
    reporters: ['default', './test/support/closing-line.ts'],
    // As fast as threads here (2.9–4.4 s against 4.0–5.2 s for 73 tests), and a test that is killed or changes its process harms nobody else.
    pool: 'forks',
    maxWorkers: WORKERS,
    restoreMocks: true,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          sequence: { groupOrder: 0 },
          include: [...tiers.unit.map((tier) => `test/${tier}/**/*.test.ts`), 'test/*.test.ts'],
          testTimeout: 20_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'whole',
          // After the small ones: what they would have told in seconds is not worth finding here.
          sequence: { groupOrder: 1 },
          include: tiers.whole.map((tier) => `test/${tier}/**/*.test.ts`),
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
