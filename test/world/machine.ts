/**
 * A machine of the world: it boots, carries the real agent on a disk of its own, and a workload that writes as long as nobody stops it. It
 * can be cut off from us, lose its agent, die, and come back as it was. Who pays for it is the vendors'.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ControlPlane } from '../../agent/control-plane.ts';
import { createDeadMan } from '../../agent/dead-man.ts';
import { createDuties } from '../../agent/duties.ts';
import { createKeyStore, type AgentKey } from '../../agent/key-store.ts';
import { runAgent } from '../../agent/loop.ts';
import { createOrders, OrderError, type OrderContext, type OrderHandler, type Orders } from '../../agent/orders.ts';
import { createWriteAccess } from '../../agent/write-access.ts';
import type { RestoreSnapshotInput, SnapshotSecrets, TakeSnapshotInput } from '../../domain/snapshots/orders.ts';
import { makeHeartbeat } from '../support/heartbeat.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import { startSshMachine, type SshMachine } from '../support/ssh-machine.ts';
import type { Line } from './agent-calls.ts';
import type { MachineTime } from './machine-time.ts';
import type { SnapshotStore } from './snapshot-store.ts';
import { addWrites, sizeOfWork, type Work } from './work.ts';

export interface MachineParts {
  time: MachineTime;
  random: SeededRandom;
  store: SnapshotStore;
  /** Of all machines of the world. */
  home: string;
  controlPlane: (line: Line) => ControlPlane;
  /** Whether the control plane takes calls at all. */
  isListening: () => boolean;
  /** By the control plane's clock. */
  now: () => Date;
  /** Whether people are sent to it: else whoever worked there has left. */
  isEndpoint: (machine: Machine) => Promise<boolean>;
}

export interface MachineOrder {
  name: string;
  kind: 'rented' | 'standby';
  /** null: it has its key on its disk. */
  token: string | null;
}

export type Power = 'booting' | 'on' | 'off' | 'dead' | 'gone';

export interface Machine {
  readonly name: string;
  readonly kind: 'rented' | 'standby';
  readonly power: Power;
  readonly ssh: SshMachine;
  /** null: its agent has never registered. */
  readonly nodeId: string | null;
  /** By the clock of machines: when its agent was answered last; -Infinity: never. */
  readonly answeredAt: number;
  /** When it last could not be reached by us, for whatever reason. */
  readonly unreachableAt: number;
  readonly isAgentUp: boolean;
  /** When it has booted, by the clock of machines. */
  readonly upAt: number;
  /** What its workload has written, as it is on its disk. */
  readonly work: Work;
  /** What was on its disk after the last restore. */
  readonly restored: { snapshotId: string; work: Work; at: Date } | null;
  /** Its agent stopped the workload: fenced, or abandoned. */
  readonly isStopped: boolean;
  /** Its network to us, SSH as well. */
  isCutOff: boolean;
  /** Its disk takes no restore. */
  isFull: boolean;
  isWorking: boolean;
  /** The last token that it wrote snapshots with. */
  readonly lastToken: { token: string; instanceId: string } | null;
  /** Things that must not be, told once. */
  readonly problems: string[];
  /** Its power-up ends after so long. */
  boot(afterMs: number): void;
  /** Its workload writes for so long. */
  work_(ms: number): void;
  /** Reports that its agent has and the control plane does not. @returns whether any was taken */
  flush(): Promise<boolean>;
  /** The agent's process dies, or is started again. */
  killAgent(): void;
  startAgent(): void;
  /** Nothing works any more; `back` brings it back with its disk as it was. */
  die(): void;
  back(): void;
  switchOff(): void;
  /** For good. */
  destroy(): Promise<void>;
}

interface Agent {
  end: AbortController;
  /** null: it has not registered. */
  orders: Orders | null;
}

/** A write in so much time. */
const WRITE_MS = 10_000;
const IMAGE = { resticVersion: '0.14.0', tookMs: 1 };

export async function createMachine(parts: MachineParts, order: MachineOrder): Promise<Machine> {
  const { time, random } = parts;
  const directory = join(parts.home, order.name);
  mkdirSync(directory, { recursive: true });
  const keys = createKeyStore(directory);
  /** Looked at for each call: spared a file each. */
  let key: AgentKey | null = null;
  const readKey = (): AgentKey | null => (key ??= keys.read());
  const ssh = await startSshMachine();
  let power: Power = 'off';
  let boots = 0;
  let upAt = 0;
  let work: Work = [];
  let restored: Machine['restored'] = null;
  let answeredAt = -Infinity;
  let unreachableAt = time.nowMs();
  let agent: Agent | null = null;
  let life = new AbortController();
  let isCutOff = false;
  let lastToken: Machine['lastToken'] = null;
  let isStopped = false;

  const line: Line = {
    isOpen: () => power === 'on' && !isCutOff && parts.isListening(),
    answered: () => (answeredAt = time.nowMs()),
    nodeId: () => readKey()?.nodeId ?? null,
  };
  const controlPlane = parts.controlPlane(line);

  const handlers: Record<string, OrderHandler> = {
    async take_snapshot(taken, context) {
      const input = taken.input as unknown as TakeSnapshotInput & SnapshotSecrets;
      const { snapshotId, instanceId, token = '' } = input;
      lastToken = { token, instanceId };
      const copy = structuredClone(work);
      await transfer(context);
      const resticId = await parts.store.publish({ token, instanceId, snapshotId, work: copy });
      const bytes = sizeOfWork(copy);
      return { resticId, files: 1, bytes, addedBytes: bytes, ...IMAGE };
    },
    restore_snapshot: Object.assign(restore, { isRepeatable: true }),
  };

  async function restore(taken: Parameters<OrderHandler>[0], context: OrderContext): Promise<unknown> {
    const input = taken.input as unknown as RestoreSnapshotInput & SnapshotSecrets;
    const { snapshotId, instanceId, resticId, token = '' } = input;
    if (machine.isFull) throw new OrderError('no_space', 'there is no room for the files');
    const found = await parts.store.fetch({ token, instanceId, resticId });
    await transfer(context);
    if (machine.isWorking && (await parts.isEndpoint(machine)))
      machine.problems.push(`${order.name} was restored while its workload wrote`);
    machine.isWorking = false;
    work = structuredClone(found);
    restored = { snapshotId, work: structuredClone(found), at: parts.now() };
    return { files: 1, bytes: sizeOfWork(found), ...IMAGE };
  }

  /** As long as the store takes. Throws when the order is not wanted any more, or the machine ends. */
  async function transfer(context: OrderContext): Promise<void> {
    const { slowMs } = parts.store.trouble;
    if (slowMs > 0) await time.sleep(slowMs * (0.5 + random.next()), AbortSignal.any([context.signal, life.signal]));
    context.signal.throwIfAborted();
    if (life.signal.aborted || isCutOff || !parts.isListening())
      throw new OrderError('store_unreachable', 'the connection was lost');
  }

  function startAgent(): void {
    if (power !== 'on' || agent !== null) return;
    const end = new AbortController();
    const own: Agent = { end, orders: null };
    agent = own;
    const pods = {
      apply() {},
      report: () => undefined,
      stopAll: () => {
        isStopped = true;
        machine.isWorking = false;
        return Promise.resolve();
      },
    };
    const log = (): void => {};
    const bootId = `boot-${order.name}-${boots}`;
    const writes = createWriteAccess({
      file: join(directory, 'write-access.json'),
      lock: { putOn: () => Promise.resolve(false), takeOff: () => Promise.resolve() },
      bootId,
      log,
    });
    runAgent(
      {
        controlPlane,
        keys,
        gpus: { read: () => Promise.resolve(makeHeartbeat().gpu) },
        work: () => {
          // Its word is brought by `flush`, so that it comes in turn.
          const orders = createOrders({ directory, handlers, changed: () => {}, log });
          own.orders = orders;
          return { orders, pods, duties: createDuties({ pods, orders, writes, log }) };
        },
        deadMan: createDeadMan({
          file: join(directory, 'dead-man.json'),
          bootId,
          uptimeMs: time.nowMs,
          own: null,
          log,
        }),
        updates: { consider: () => Promise.resolve(false), confirm() {}, complain: () => false, trouble: null },
        powerOff: () => {
          machine.switchOff();
          return Promise.resolve();
        },
        token: order.token,
        version: 'world',
        bootId,
        firstSequence: Math.floor(time.nowMs() / 10),
        readSystem: () => makeHeartbeat().system,
        readActivity: () => undefined,
        monotonicMs: time.nowMs,
        sleep: time.sleep,
        random: random.next,
        log,
      },
      end.signal,
    ).catch((error: unknown) => {
      machine.problems.push(`the agent of ${order.name} ended: ${String(error)}`);
    });
  }

  function killAgent(): void {
    if (agent === null) return;
    agent.end.abort();
    const { orders } = agent;
    agent = null;
    // What it did ends with it; the next one says that it was restarted.
    void orders?.stopAll('agent_restarted', 'the agent was ended');
  }

  function end(next: Power): void {
    if (power === 'gone') return;
    power = next;
    unreachableAt = time.nowMs();
    ssh.mood = 'hangs_up';
    life.abort();
    life = new AbortController();
    killAgent();
    if (next !== 'dead') machine.isWorking = false;
  }

  function up(): void {
    if (power !== 'booting') return;
    power = 'on';
    isStopped = false;
    if (!isCutOff) ssh.mood = 'talks';
    startAgent();
  }

  const machine: Machine = {
    name: order.name,
    kind: order.kind,
    ssh,
    get power() {
      return power;
    },
    get nodeId() {
      return line.nodeId();
    },
    get answeredAt() {
      return answeredAt;
    },
    get unreachableAt() {
      return power !== 'on' || isCutOff ? time.nowMs() : unreachableAt;
    },
    get upAt() {
      return upAt;
    },
    get isAgentUp() {
      return agent !== null;
    },
    get work() {
      return work;
    },
    get restored() {
      return restored;
    },
    get isStopped() {
      return isStopped;
    },
    get lastToken() {
      return lastToken;
    },
    get isCutOff() {
      return isCutOff;
    },
    set isCutOff(next) {
      isCutOff = next;
      unreachableAt = time.nowMs();
      ssh.mood = next || power !== 'on' ? 'hangs_up' : 'talks';
    },
    isFull: false,
    isWorking: false,
    problems: [],
    boot(afterMs) {
      if (power === 'gone') return;
      boots++;
      power = 'booting';
      upAt = time.nowMs() + afterMs;
      ssh.mood = 'hangs_up';
      const { signal } = life;
      void time.sleep(afterMs, signal).then(() => {
        if (!signal.aborted) up();
      });
    },
    work_(ms) {
      if (power === 'on' && machine.isWorking && !isStopped) addWrites(work, order.name, Math.ceil(ms / WRITE_MS));
    },
    async flush() {
      const orders = agent?.orders;
      const key = readKey()?.key;
      const ended = orders?.reports().filter(({ status }) => status !== 'running') ?? [];
      if (!orders || key === undefined || ended.length === 0 || !line.isOpen()) return false;
      const answer = await controlPlane.report(key, { orders: ended }).catch(() => null);
      if (answer) orders.acknowledge(answer.acknowledgedOrders);
      return answer !== null;
    },
    killAgent,
    startAgent,
    die: () => end('dead'),
    back() {
      if (power !== 'dead') return;
      machine.boot(1_000 + random.below(30_000));
    },
    switchOff: () => end('off'),
    async destroy() {
      end('gone');
      await ssh.close();
    },
  };
  return machine;
}
