/** Ends a test run with one plain line, `N passed, N failed, N skipped`, that a person and a program read alike. A file that could not be loaded counts as a failure. */
import type { Reporter, TestCase, TestModule } from 'vitest/node';

export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 };
    for (const module of modules) {
      const tests: TestCase[] = [...module.children.allTests()];
      for (const test of tests) {
        const { state } = test.result();
        counts[state === 'pending' ? 'failed' : state] += 1;
      }
      const isBroken = module.state() === 'failed' && !tests.some((test) => test.result().state === 'failed');
      if (isBroken) counts.failed += 1;
    }
    // After the default reporter's summary, and written at once: the process may be ended right after.
    process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
  }
}
