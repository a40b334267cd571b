/** What a simulated machine's engine holds: containers, images and volumes, as a file on the machine's simulated disk, so that they outlive the sandbox. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { programOf, TICK_MS, type Program } from './program.ts';

export interface StoredContainer {
  id: string;
  name: string;
  image: string;
  labels: Record<string, string>;
  command: string[];
  exposed: string[];
  /** As Docker tells them: `80/tcp` and the port of the host. */
  published: Record<string, string>;
  volumes: string[];
  createdAt: number;
  /** null: never. */
  startedAt: number | null;
  /** null: it runs, or was never started. */
  endedAt: number | null;
  exitCode: number;
  /** Lines of earlier starts. */
  earlier: StoredLine[];
}

export interface StoredLine {
  at: number;
  stream: 'stdout' | 'stderr';
  text: string;
}

export interface EngineStore {
  boot: string;
  containers: StoredContainer[];
  images: Record<string, { id: string; digest: string }>;
  volumes: string[];
}

const KILLED = 137;
const MAX_LINES = 2_000;

export interface Store extends EngineStore {
  save(): void;
}

export function openStore(file: string): Store {
  const kept = read(file);
  const store: Store = {
    ...kept,
    save() {
      mkdirSync(dirname(file), { recursive: true });
      const { boot, containers, images, volumes } = store;
      writeFileSync(`${file}.new`, JSON.stringify({ boot, containers, images, volumes }));
      renameSync(`${file}.new`, file);
    },
  };
  return store;
}

/** The machine was switched off meanwhile: what ran has ended. */
export function endAllOfEarlierBoots(store: Store, boot: string, at: number): void {
  if (store.boot === boot) return;
  store.boot = boot;
  for (const one of store.containers) {
    settle(one, at);
    if (isRunning(one)) end(one, at, KILLED);
  }
  store.save();
}

export function newId(): string {
  return randomBytes(32).toString('hex');
}

export function isRunning({ startedAt, endedAt }: StoredContainer): boolean {
  return startedAt !== null && endedAt === null;
}

/** What time has brought: a program that ends has ended. @returns whether it has by this call */
export function settle(one: StoredContainer, now: number): boolean {
  const { endsAfterMs, exitCode } = programOfContainer(one);
  if (!isRunning(one) || endsAfterMs === null || now < (one.startedAt ?? 0) + endsAfterMs) return false;
  end(one, (one.startedAt ?? 0) + endsAfterMs, exitCode);
  return true;
}

export function start(one: StoredContainer, now: number): void {
  if (one.startedAt !== null) one.earlier = linesOf(one, now).slice(-MAX_LINES);
  one.startedAt = now;
  one.endedAt = null;
  one.exitCode = 0;
}

export function end(one: StoredContainer, at: number, exitCode: number): void {
  one.endedAt = at;
  one.exitCode = exitCode;
}

/** All that it has written up to now, oldest first. */
export function linesOf(one: StoredContainer, now: number): StoredLine[] {
  const { startedAt, endedAt } = one;
  if (startedAt === null) return [...one.earlier];
  const { output, endsAfterMs } = programOfContainer(one);
  const lines = output.map(({ stream, text }, place) => ({ at: startedAt + place, stream, text }));
  const until = endedAt ?? now;
  if (endsAfterMs === null || endsAfterMs > TICK_MS) {
    const first = Math.max(1, Math.floor((until - startedAt) / TICK_MS) - MAX_LINES);
    for (let tick = first; startedAt + tick * TICK_MS < until; tick++)
      lines.push({ at: startedAt + tick * TICK_MS, stream: 'stdout', text: `tick ${tick}` });
  }
  return [...one.earlier, ...lines];
}

function programOfContainer({ image, command }: StoredContainer): Program {
  return programOf(image, command);
}

function read(file: string): EngineStore {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as EngineStore;
  } catch {
    return { boot: '', containers: [], images: {}, volumes: [] };
  }
}
