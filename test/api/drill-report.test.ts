import { describe, expect, it } from 'vitest';
import type { DrillReply } from '../../api/contract/standbys.ts';
import { renderDrillReport } from '../../api/drill-report.ts';

const DRILL: DrillReply = {
  id: 'drl_aaaaaaaaaaaaaaaa',
  standbyId: 'sby_aaaaaaaaaaaaaaaa',
  instanceId: 'ins_aaaaaaaaaaaaaaaa',
  failoverId: 'fov_aaaaaaaaaaaaaaaa',
  mode: 'sandbox',
  status: 'failed',
  phase: 'ended',
  targets: { detectionMs: 20_000, rtoMs: 30_000, rpoMs: null, costMicroUsd: null },
  measures: { detectionMs: 12_000, rtoMs: 41_500, rpoMs: 8_000, restoredMs: 60_000, costMicroUsd: 12_300 },
  failures: ['rtoMs: the workload was served again after 41.5 s, 30.0 s wanted', '<img src=x onerror=alert(1)>'],
  moments: { lost: '2026-11-21T09:00:00.000Z', serving: '2026-11-21T09:00:41.500Z' },
  operationId: 'op_aaaaaaaaaaaaaaaa',
  createdAt: '2026-11-21T08:59:00.000Z',
  finishedAt: '2026-11-21T09:01:00.000Z',
};

describe("a drill's report", () => {
  it('shows each figure with its target and what was missed', () => {
    const page = renderDrillReport(DRILL, { standby: 'stand', instance: 'train-1' });
    expect(page).toContain('<td class="n">41.5 s</td><td class="n">30.0 s</td><td class="failed">missed</td>');
    expect(page).toContain('<td class="n">12.0 s</td><td class="n">20.0 s</td><td class="passed">met</td>');
    expect(page).toContain('<td class="n">8.0 s</td><td class="n">-</td><td class="running">not judged</td>');
    expect(page).toContain('$0.0123');
    expect(page).toContain('2026-11-21T09:00:41.500Z');
  });

  it('runs nothing, loads nothing and escapes whatever came from elsewhere', () => {
    const page = renderDrillReport(DRILL, { standby: '"><script>1</script>', instance: "a'b" });
    expect(page).not.toMatch(/<script|<img|https?:|src=x onerror=alert\(1\)>/i);
    expect(page).toContain('&lt;script&gt;');
    expect(page).toContain('a&#39;b');
  });

  it('shows one under way without figures', () => {
    const page = renderDrillReport(
      { ...DRILL, status: 'running', phase: 'detecting', measures: null, failures: [], moments: {}, finishedAt: null },
      { standby: 'stand', instance: 'train-1' },
    );
    expect(page).toContain('It is under way (detecting).');
    expect(page).not.toContain('missed');
  });
});
