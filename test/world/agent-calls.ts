/**
 * The control plane as the world's agents call it: the API's own handlers, in this process, over whatever network the script leaves them. A
 * wait for something new has no end of its own: heartbeats say often enough that both sides live.
 */
import type { ControlPlane } from '../../agent/control-plane.ts';
import { CallError } from '../../agent/control-plane.ts';
import type { ApiContext } from '../../api/api-deps.ts';
import type { DesiredReply, HeartbeatReply, RegisterReply, ReportsReply } from '../../api/contract/nodes.ts';
import type { Call } from '../../api/route.ts';
import { agentCallRoutes } from '../../api/routes/agent-calls.ts';
import { MusterError } from '../../domain/error-table.ts';
import type { Database } from '../../db/database.ts';
import type { Queue } from '../../db/queue.ts';
import type { Envelope } from '../../secrets/envelope.ts';

export interface AgentCalls {
  /** What one machine's agent speaks to. */
  forMachine(line: Line): ControlPlane;
  /** Answers whoever waits for something new. @returns whether anybody was answered */
  answerWaiting(): Promise<boolean>;
  /** Resolves when no call is under way. */
  quiet(): Promise<void>;
}

/** The network between a machine and us. */
export interface Line {
  isOpen(): boolean;
  /** An answer arrived. */
  answered(): void;
  /** null: it has not registered. */
  nodeId(): string | null;
}

export interface AgentCallParts {
  database: Database;
  queue: Queue;
  envelope: Envelope;
  intervalMs: number;
  deadManMs: number;
  /** A handler failed for no reason that it knows. */
  onFailure: (error: unknown) => void;
}

interface Waiting {
  line: Line;
  key: string;
  after: number;
  resolve: (reply: DesiredReply) => void;
  reject: (error: Error) => void;
}

export function createAgentCalls(parts: AgentCallParts): AgentCalls {
  const { database, queue, envelope, intervalMs, deadManMs } = parts;
  const deps = {
    database,
    queue,
    envelope,
    agents: { intervalMs, deadManMs, rotateKeyAfterMs: 24 * 3_600_000 },
    agentSha256: () => null,
    // Nobody waits within a handler: who waits for something new is answered from here.
    hub: { heard: 0 },
  } as unknown as ApiContext;
  const waiting = new Set<Waiting>();
  let turn: Promise<unknown> = Promise.resolve();

  async function ask<T>(path: string, credential: string, sent: { body?: unknown; query?: unknown }): Promise<T> {
    const route = agentCallRoutes.find((one) => one.path === path);
    if (!route) throw new Error(`no route ${path}`);
    const body: unknown = route.body?.parse(sent.body);
    const request = { headers: { 'x-agent-api-key': credential } };
    try {
      const call = { body, query: sent.query, request, response: {}, requestId: 'world', deps } as unknown as Call;
      return (await route.handle(call))?.body as T;
    } catch (error) {
      if (!(error instanceof MusterError)) {
        parts.onFailure(error);
        throw error;
      }
      throw new CallError(`answered (${error.code})`, { isRefused: error.code === 'unauthenticated' });
    }
  }

  /** One after the other, in the order in which they were made. */
  function send<T>(
    line: Line,
    path: string,
    credential: string,
    sent: { body?: unknown; query?: unknown },
  ): Promise<T> {
    const answer = turn.then(async () => {
      if (!line.isOpen()) throw new CallError('cannot be reached (ETIMEDOUT)');
      const reply = await ask<T>(path, credential, sent);
      line.answered();
      return reply;
    });
    turn = answer.catch(() => {});
    return answer;
  }

  const look = (line: Line, key: string, after: number) =>
    send<DesiredReply>(line, '/nodes/desired', key, { query: { after, waitMs: 0 } });

  async function readRevisions(): Promise<Map<string, number>> {
    const rows = await database.kysely.selectFrom('nodes').select(['id', 'desired_revision']).execute();
    return new Map(rows.map((row) => [row.id, row.desired_revision]));
  }

  return {
    forMachine: (line) => ({
      register: (token, body) => send<RegisterReply>(line, '/nodes/register', token, { body }),
      async heartbeat(key, body) {
        const reply = await send<HeartbeatReply>(line, '/nodes/heartbeat', key, { body });
        return { ...reply, desiredRevision: reply.desiredRevision };
      },
      async desired(key, { after, waitMs, signal }) {
        const reply = await look(line, key, after);
        if (reply.revision !== after || waitMs === 0 || signal.aborted) return reply;
        return new Promise((resolve, reject) => {
          const one: Waiting = { line, key, after, resolve, reject };
          waiting.add(one);
          const end = () => {
            if (waiting.delete(one)) reject(new CallError('no answer'));
          };
          signal.addEventListener('abort', end, { once: true });
        });
      },
      async report(key, body) {
        const reply = await send<ReportsReply>(line, '/nodes/reports', key, { body });
        return { acknowledgedOrders: reply.acknowledgedOrders };
      },
      podLogs: () => Promise.reject(new CallError('no logs here')),
      agent: () => Promise.reject(new CallError('no agent here')),
    }),
    async answerWaiting() {
      if (waiting.size === 0) return false;
      const revisions = await readRevisions();
      let isAnswered = false;
      for (const one of Array.from(waiting)) {
        if (!one.line.isOpen()) {
          waiting.delete(one);
          one.reject(new CallError('the connection was lost'));
        } else if ((revisions.get(one.line.nodeId() ?? '') ?? -1) > one.after) {
          const reply = await look(one.line, one.key, one.after).catch((error: unknown) => error as Error);
          if (!(reply instanceof Error) && reply.revision === one.after) continue;
          if (!waiting.delete(one)) continue;
          isAnswered = true;
          if (reply instanceof Error) one.reject(reply);
          else one.resolve(reply);
        }
      }
      return isAnswered;
    },
    async quiet() {
      for (let last: unknown = null; last !== turn;) {
        last = turn;
        await turn;
        // What was waiting for that answer asks next.
        await new Promise((resolve) => setImmediate(resolve));
        await new Promise((resolve) => setImmediate(resolve));
      }
    },
  };
}
