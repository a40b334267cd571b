/**
 * Watching an operation until it has finished: from its events, over broken connections, on a live terminal with lines in place, in a log
 * line by line, for programs as one JSON document a line. Stopping the watch never stops the operation.
 */
import type { Operation, OperationEvent } from '../api/contract/operations.ts';
import type { ApiClient } from './api-client.ts';
import { followEvents } from './event-stream.ts';
import { CliError, EXIT, exitCodeOfOperation } from './exit-code.ts';
import type { ExitCode } from './exit-code.ts';
import { printable } from './format.ts';
import { applyEvent, describeEvent, NO_PROGRESS } from './operation-progress.ts';
import type { Progress } from './operation-progress.ts';
import type { Terminal } from './terminal.ts';

/**
 * Shows the operation until it has finished and tells how it ended. Throws CliError with `interrupted` on Ctrl-C, telling how to go on.
 */
export async function watchOperation(api: ApiClient, terminal: Terminal, operationId: string): Promise<Operation> {
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.on('SIGINT', interrupt);
  const display = await openDisplay(terminal, operationId);
  let progress = NO_PROGRESS;
  const onLost = () => display.note('connection lost; trying again');
  try {
    const path = `/operations/${encodeURIComponent(operationId)}/events`;
    for await (const { data } of followEvents(api, path, { signal: stop.signal, onLost })) {
      const event = JSON.parse(data) as OperationEvent;
      progress = applyEvent(progress, event);
      display.show(event, progress);
    }
    if (stop.signal.aborted) throw new CliError(explainInterruption(operationId), EXIT.interrupted);
    const operation = await readOperation(api, operationId);
    await display.close(operation);
    return operation;
  } catch (error) {
    await display.close(null);
    throw error;
  } finally {
    process.off('SIGINT', interrupt);
  }
}

/** The exit code of a finished operation, after its reason has been told. */
export function reportEnd(terminal: Terminal, operation: Operation): ExitCode {
  if (operation.error !== null) {
    terminal.say(
      `${operation.kind} ${operation.id} ${operation.status}: ${operation.error.detail} (${operation.error.code})`,
    );
  }
  return exitCodeOfOperation(operation.status, operation.error?.code ?? null);
}

function readOperation(api: ApiClient, operationId: string): Promise<Operation> {
  return api.get<Operation>(`/operations/${encodeURIComponent(operationId)}`);
}

function explainInterruption(operationId: string): string {
  return [
    `Stopped watching; ${operationId} goes on without us.`,
    `  watch it again:  muster operations watch ${operationId}`,
    `  cancel it:       muster operations cancel ${operationId}`,
  ].join('\n');
}

interface Display {
  show(event: OperationEvent, progress: Progress): void;
  note(text: string): void;
  /** null: stopped before the end. */
  close(operation: Operation | null): Promise<void>;
}

async function openDisplay(terminal: Terminal, operationId: string): Promise<Display> {
  if (terminal.isJson) return jsonDisplay(terminal);
  return terminal.isLive ? liveDisplay(operationId) : lineDisplay(terminal);
}

function jsonDisplay(terminal: Terminal): Display {
  return {
    show: (event) => terminal.printJsonLine(event),
    note: (text) => terminal.say(text),
    close: async (operation) => {
      if (operation !== null) terminal.printJsonLine(operation);
    },
  };
}

function lineDisplay(terminal: Terminal): Display {
  return {
    show(event) {
      const line = describeEvent(event);
      if (line !== null) terminal.print(`${event.at.slice(11, 19)}  ${line}`);
    },
    note: (text) => terminal.say(text),
    close: async () => {},
  };
}

/** One task whose title is the whole picture: its lines change in place and stay when it ends. */
async function liveDisplay(operationId: string): Promise<Display> {
  const { Listr } = await import('listr2');
  let setTitle: (title: string) => void = () => {};
  let end: (isOk: boolean) => void = () => {};
  const ended = new Promise<void>((resolve, reject) => {
    end = (isOk) => (isOk ? resolve() : reject(new Error('not finished')));
  });
  const list = new Listr(
    [
      {
        title: operationId,
        task: (_context, task) => {
          setTitle = (title) => (task.title = title);
          return ended;
        },
      },
    ],
    { registerSignalListeners: false, exitOnError: false, rendererOptions: { showErrorMessage: false } },
  );
  const running = list.run().then(
    () => {},
    () => {},
  );
  let current: Progress = NO_PROGRESS;
  const draw = (note: string | null) => setTitle(renderPicture(operationId, current, note));
  return {
    show(_event, progress) {
      current = progress;
      draw(progress.note);
    },
    note: draw,
    close(operation) {
      end(operation?.status === 'succeeded');
      return running;
    },
  };
}

/** Lines of a terminal that the picture leaves to what stands around it; one that is taller than the terminal cannot be redrawn. */
const ROWS_LEFT = 6;

function renderPicture(operationId: string, progress: Progress, note: string | null): string {
  const head = `${operationId} ${progress.status}${note === null || note === progress.status ? '' : `: ${note}`}`;
  const lines = [...progress.resources.values()];
  const shown = lines.slice(-Math.max(3, (process.stdout.rows || 24) - ROWS_LEFT));
  const left = lines.length - shown.length;
  const more = left > 0 ? [`… and ${left} more`] : [];
  return [head, ...[...more, ...shown].map((line) => `  ${line}`)].map(printable).join('\n');
}
