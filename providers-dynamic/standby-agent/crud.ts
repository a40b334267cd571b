/**
 * The dynamic resource of a standby's right to join: who it is at the control plane, and the one-time token by which its agent proves it.
 * It is asked for once and stays in the state, encrypted, so that no later run changes the machine. What it names is retired with its stack.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import { UNKNOWN_VALUE, type CheckFailure, type DynamicCrud, type Properties } from '../dynamic-crud.ts';
import type { HostRuntime } from '../host-runtime.ts';

export function createStandbyAgentCrud(runtime: HostRuntime): DynamicCrud {
  return {
    check: (_olds, news) => Promise.resolve({ inputs: news, failures: checkJoin(news) }),
    diff(_id, olds, news) {
      const replaces = differs(olds, news, 'disk') ? ['disk'] : [];
      const changed = [...replaces, ...(differs(olds, news, 'controlPlaneUrl') ? ['controlPlaneUrl'] : [])];
      return Promise.resolve({ changes: changed.length > 0, replaces, deleteBeforeReplace: true, changed });
    },
    async create(inputs) {
      const join = await runtime.joinStandby();
      if (join === null)
        throw new ProviderError('invalid', 'the control plane knows no standby of this stack: POST /standby makes one');
      return { id: join.nodeId, outs: { ...inputs, nodeId: join.nodeId, token: join.token } };
    },
    read: (id, props) => Promise.resolve({ id, props }),
    // Its key, or the token it has not used yet, is as good at the new address.
    update: (_id, olds, news) => Promise.resolve({ outs: { ...news, nodeId: olds['nodeId'], token: olds['token'] } }),
    delete: () => Promise.resolve(),
  };
}

function checkJoin(news: Properties): CheckFailure[] {
  return ['disk', 'controlPlaneUrl'].flatMap((property) =>
    typeof news[property] === 'string' && news[property] !== ''
      ? []
      : [{ property, reason: `must be text, got ${JSON.stringify(news[property]) ?? 'nothing'}` }],
  );
}

function differs(olds: Properties, news: Properties, name: string): boolean {
  return news[name] !== UNKNOWN_VALUE && olds[name] !== news[name];
}
