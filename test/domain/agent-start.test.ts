import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { MAX_ON_START, withAgentStart } from '../../domain/agent-start.ts';

describe('the start script of a machine with an agent', () => {
  it('stays within what every vendor takes, with the longest script of a user', () => {
    expect(withAgentStart('x'.repeat(MAX_ON_START)).length).toBeLessThanOrEqual(4_096);
  });

  it("is one line before the user's own, which any shell can read", () => {
    const [line, ...rest] = withAgentStart('echo mine').split('\n');
    expect(rest).toEqual(['echo mine']);
    expect(line).toMatch(/&$/); // nobody waits for it
    for (const shell of ['sh', 'bash']) execFileSync(shell, ['-n'], { input: withAgentStart('echo mine') });
  });

  it("does not keep the user's script waiting, however long its own downloads take", () => {
    const script = withAgentStart('echo mine').replace('sleep 15', 'exit');
    const env = { PATH: process.env['PATH'], MUSTER_AGENT_URL: 'http://127.0.0.1:1' };
    expect(execFileSync('sh', { input: script, env, encoding: 'utf8', timeout: 10_000 })).toBe('mine\n');
  });
});
