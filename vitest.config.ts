import { defineConfig } from 'vitest/config';

/** Files of these tiers start real engines and processes: fewer at once than cores would make them wait for each other, more makes all of them slow. */
const WORKERS = 2;

const tiers = {
  /** Pure rules and small parts. */
  unit: [
    'domain',
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
    pool: 'forks',
    maxWorkers: WORKERS,
    restoreMocks: true,
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: [...tiers.unit.map((tier) => `test/${tier}/**/*.test.ts`), 'test/*.test.ts'],
          testTimeout: 20_000,
          hookTimeout: 60_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'whole',
          include: tiers.whole.map((tier) => `test/${tier}/**/*.test.ts`),
          testTimeout: 120_000,
          hookTimeout: 180_000,
        },
      },
    ],
  },
});
