/**
 * The dynamic resource of one host of ours: looked at, and carrying our agent where there is a control plane for it. Create and update
 * are the same "ensure", so an installation that was cut off is finished by the next up. A host that cannot be reached is never taken for
 * one that is gone: it is forgotten only when nothing of ours is proven left, or when a person says that it is dead for ever.
 */
import { hostId } from '../../domain/on-prem-host.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { keepingShim, PartialFailure, type DynamicCrud, type Properties } from '../dynamic-crud.ts';
import type { HostJoin, HostRuntime, JoiningHost } from '../host-runtime.ts';
import { withHost, type HostClient } from './client.ts';
import { HOST_TIMINGS, type HostTimings } from './connection.ts';
import { checkHost, diffHost, hostOutputs, type HostAccess, type HostOutputs } from './properties.ts';
import { agentSha256Of, type AgentOnHost } from './wire.ts';

export interface HostCrudTimings extends HostTimings {
  /** How long an agent may take to register. */
  registerSeconds: number;
}

export const HOST_CRUD_TIMINGS: HostCrudTimings = { ...HOST_TIMINGS, registerSeconds: 30 };

/** Several hosts may be worked on at once; nothing is kept between calls. */
export function createSshHostCrud(runtime: HostRuntime, timings: HostCrudTimings = HOST_CRUD_TIMINGS): DynamicCrud {
  return {
    check: (_olds, news) => Promise.resolve(checkHost(news)),
    diff: (_id, olds, news) => Promise.resolve(diffHost(olds, news)),
    async create(inputs) {
      const outputs = hostOutputs(inputs);
      return { id: hostId(outputs), outs: await keepingShim(inputs, ensureHost(runtime, outputs, timings)) };
    },
    async read(id, props) {
      return { id, props: { ...(await lookAtHost(runtime, hostOutputs(props, props), timings)) } };
    },
    async update(_id, olds, news) {
      return { outs: await keepingShim(news, ensureHost(runtime, hostOutputs(news, olds), timings)) };
    },
    delete: (_id, props) => removeHost(runtime, hostOutputs(props, props), timings),
  };
}

/** From the first change on, every failure is a PartialFailure: what is half done stays in the state and is finished or removed. */
async function ensureHost(runtime: HostRuntime, wanted: HostOutputs, timings: HostCrudTimings): Promise<Properties> {
  let outputs = wanted;
  let isTouched = false;
  try {
    await withHost(runtime, wanted, timings, async (client) => {
      outputs = { ...outputs, facts: await client.facts() };
      const join = wanted.agent ? await runtime.join(joining(wanted), { wantsToken: false, carries: null }) : null;
      if (join === null) {
        if (wanted.controlPlaneUrl !== null) {
          isTouched = true;
          await uninstall(runtime, client, outputs);
        }
        outputs = { ...outputs, agentState: 'not_managed', nodeId: null, controlPlaneUrl: null };
        return;
      }
      const there = await client.agent(wanted.agentDir);
      outputs = { ...outputs, agentState: there.state, nodeId: join.nodeId, controlPlaneUrl: join.url };
      const script = await runtime.installScript(join.url);
      if (isUpToDate(there, join, script)) return;
      const ticket = await takeTicket(runtime, outputs, there);
      isTouched = true;
      await client.install({
        script,
        url: join.url,
        dir: wanted.agentDir,
        token: ticket.token,
        nodePath: wanted.nodePath,
        registerSeconds: timings.registerSeconds,
      });
      outputs = { ...outputs, agentState: (await client.agent(wanted.agentDir)).state };
      if (outputs.agentState !== 'running')
        throw new ProviderError(
          'retryable',
          `the agent on ${hostId(wanted)} is ${outputs.agentState} after its installation`,
        );
    });
  } catch (error) {
    if (!isTouched) throw error;
    throw new PartialFailure(hostId(wanted), { ...outputs }, error);
  }
  return { ...outputs };
}

function isUpToDate(there: AgentOnHost, join: HostJoin, script: string): boolean {
  const isOurs = there.state === 'running' && there.nodeId === join.nodeId && there.url === join.url;
  return isOurs && there.sha256 === agentSha256Of(script);
}

/** Throws ProviderError `invalid` where the host carries the agent of somebody else. */
async function takeTicket(runtime: HostRuntime, outputs: HostOutputs, there: AgentOnHost): Promise<HostJoin> {
  const ticket = await runtime.join(joining(outputs), { wantsToken: true, carries: there.nodeId });
  if (ticket === null) throw new ProviderError('invalid', 'the control plane no longer takes agents');
  if (there.nodeId !== null && there.nodeId !== ticket.nodeId && !(ticket.mayTakeOver && there.url === ticket.url)) {
    throw new ProviderError(
      'invalid',
      `${hostId(outputs)} carries the agent of ${there.nodeId} at ${there.url ?? 'an unknown control plane'} in ${outputs.agentDir}: ` +
        'remove that node first, or give another agentDir',
    );
  }
  return ticket;
}

function joining({ host, address, port, user, hostKeySha256, credentialRef, labels }: HostOutputs): JoiningHost {
  return { host, address, port, user, hostKeySha256, credentialRef, labels };
}

async function lookAtHost(runtime: HostRuntime, known: HostOutputs, timings: HostTimings): Promise<HostOutputs> {
  return withHost(runtime, known, timings, async (client) => {
    const facts = await client.facts();
    if (!known.agent || known.agentState === 'not_managed') return { ...known, facts };
    const there = await client.agent(known.agentDir);
    const isOthers = there.nodeId !== null && known.nodeId !== null && there.nodeId !== known.nodeId;
    return { ...known, facts, agentState: isOthers ? 'missing' : there.state };
  });
}

async function removeHost(runtime: HostRuntime, known: HostOutputs, timings: HostTimings): Promise<void> {
  if (known.agentState !== 'not_managed')
    await orForget(runtime, known, () =>
      withHost(runtime, known, timings, (client) => uninstall(runtime, client, known)),
    );
  await runtime.removed(known.host);
}

async function uninstall(runtime: HostRuntime, client: HostClient, known: HostOutputs): Promise<void> {
  const there = await client.agent(known.agentDir);
  if (there.state === 'missing') return;
  const join = await runtime.join(joining(known), { wantsToken: false, carries: there.nodeId });
  const nodeId = known.nodeId ?? join?.nodeId ?? null;
  if (there.nodeId !== null && there.nodeId !== nodeId) {
    runtime.progress(known.host, `it carries the agent of ${there.nodeId}, which is left alone`);
    return;
  }
  const url = known.controlPlaneUrl ?? join?.url;
  if (url === undefined)
    throw new ProviderError('invalid', `no control plane is known whose agent ${hostId(known)} carries`);
  await client.uninstall(known.agentDir, await runtime.installScript(url));
}

/** What cannot be cleaned is let go only where a person said that the host is dead for ever. */
export async function orForget(runtime: HostRuntime, access: HostAccess, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const isOver = error instanceof ProviderError && error.kind !== 'canceled';
    if (!isOver || !(await runtime.mayForget(access.host))) throw error;
    runtime.progress(access.host, `it is forgotten, and what is on it stays: ${error.message}`);
  }
}
