/**
 * Supervision of the one process that the bootstrap hands over to: signals go down to it, its exit code comes up, and it does not outlive what started us.
 *
 * A terminal's Ctrl-C reaches npm, us and the child, and npm forwards it to us once more: a signal of the same kind within REPEAT_MS is not forwarded
 * again (the child ignores the repeat that the terminal itself makes). An IPC channel tells the child of our death by kill -9 ('disconnect').
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];
const REPEAT_MS = 2_000;
/** The child promises to stop within 10 s, unless it says otherwise. */
const STOP_LIMIT_MS = 15_000;
const PARENT_CHECK_MS = 500;

/** Runs a program with our terminal until it ends; resolves to its exit code, or 128 + n when signal n ended it. */
export function runSupervised(program, args, { cwd, env }) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd, env, stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
    const release = forwardSignals(child);
    child.once('error', (error) => {
      release();
      process.stderr.write(`[muster] ${program} could not be started: ${error.message}\n`);
      resolve(1);
    });
    child.once('exit', (code, signal) => {
      release();
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

/** For a child of the set-up, which has nothing to drain: a signal ends it and then us, with 128 + n. Returns the release. */
export function stopWithUs(child) {
  const stop = (signal) => {
    child.once('close', () => process.exit(128 + constants.signals[signal]));
    child.kill(signal);
    setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS).unref();
  };
  return onStop(stop);
}

function forwardSignals(child) {
  const forwardedAt = new Map();
  let killer;
  let limitMs = STOP_LIMIT_MS;
  // Sent by a child whose stop gives back what costs money: it may take longer.
  child.on('message', (message) => (limitMs = Number(message?.stopLimitMs) || limitMs));
  const release = onStop((signal) => {
    if (Date.now() - (forwardedAt.get(signal) ?? -Infinity) < REPEAT_MS) return;
    forwardedAt.set(signal, Date.now());
    child.kill(signal);
    killer ??= setTimeout(() => child.kill('SIGKILL'), limitMs);
  });
  return () => {
    clearTimeout(killer);
    release();
    if (child.connected) child.disconnect();
  };
}

/** Calls back for each signal that asks us to stop, and with SIGTERM when the npm that started us is gone: nobody could stop us any more. */
function onStop(callback) {
  const listeners = SIGNALS.map((signal) => [signal, () => callback(signal)]);
  for (const [signal, listener] of listeners) process.on(signal, listener);
  const ancestors = process.env.npm_lifecycle_event ? ancestorsUpToNpm() : [];
  const ticker = setInterval(() => {
    if (ancestors.length === 0 || (process.ppid === ancestors[0] && ancestors.every((pid) => statusOf(pid)))) return;
    clearInterval(ticker);
    callback('SIGTERM');
  }, PARENT_CHECK_MS);
  ticker.unref();
  return () => {
    clearInterval(ticker);
    for (const [signal, listener] of listeners) process.off(signal, listener);
  };
}

/** npm, and the shell between it and us where package.json's `exec` did not replace it (a shell swallows the SIGINT that npm passes on). */
function ancestorsUpToNpm() {
  const pids = [process.ppid];
  const parent = statusOf(process.ppid);
  if (parent && /^(da|ba|a|k|z)?sh$/.test(parent.name) && parent.parent > 1) pids.push(parent.parent);
  return pids;
}

/** Null for a process that is gone or a zombie; elsewhere than on Linux only the parent's pid is compared. */
function statusOf(pid) {
  if (process.platform !== 'linux') return { name: '', parent: 0 };
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const end = text.lastIndexOf(')');
    const [state, parent] = text.slice(end + 2).split(' ');
    return state === 'Z' || state === 'X'
      ? null
      : { name: text.slice(text.indexOf('(') + 1, end), parent: Number(parent) };
  } catch {
    return null;
  }
}
