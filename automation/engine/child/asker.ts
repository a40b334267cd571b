/** Asks the parent over IPC and waits for its answer. */
import { ProviderError } from '../../../domain/provider-error.ts';
import type { FromChild, Questions, ToChild } from '../protocol.ts';

export type Ask = <Q extends keyof Questions>(
  question: Q,
  input: Questions[Q]['ask'],
  signal?: AbortSignal,
) => Promise<Questions[Q]['answer']>;

export function createAsker(send: (message: FromChild) => void) {
  let lastId = 0;
  const open = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  return {
    forRun(runId: string): Ask {
      return (question, input, signal) =>
        new Promise((resolve, reject) => {
          const askId = ++lastId;
          const onAbort = () => {
            open.delete(askId);
            reject(new ProviderError('canceled', `canceled while asking for ${question}`));
          };
          if (signal?.aborted) return onAbort();
          signal?.addEventListener('abort', onAbort, { once: true });
          const settled = () => signal?.removeEventListener('abort', onAbort);
          open.set(askId, {
            resolve: (value) => {
              settled();
              resolve(value as never);
            },
            reject: (error) => {
              settled();
              reject(error);
            },
          });
          send({ type: 'ask', askId, runId, question, input });
        });
    },
    settle(message: Extract<ToChild, { type: 'answer' }>): void {
      const waiting = open.get(message.askId);
      open.delete(message.askId);
      if (message.error) {
        const { kind, message: text } = message.error;
        waiting?.reject(kind === null ? new Error(text) : new ProviderError(kind, text));
      } else waiting?.resolve(message.value ?? null);
    },
  };
}
