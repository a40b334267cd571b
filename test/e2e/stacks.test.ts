/** A cluster over REST through the whole program: real processes, real engine, real Postgres, simulated clouds at the engine's wire. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor, type MusterProcess } from '../support/muster-process.ts';
import { changeState } from '../support/state-client.ts';

const BOUND_MS = 400_000;

let lab: MusterLab;
let clouds: SimulatedClouds;
let muster: MusterProcess;

beforeAll(async () => {
  lab = await openMusterLab({ clouds: 'none' });
  ({ muster } = lab);
  clouds = lab.sandbox.clouds as SimulatedClouds;
}, BOUND_MS);

afterAll(() => lab?.close());

// What stacks answer is read freely: a test that reads what is not there fails.
// oxlint-disable-next-line typescript/no-explicit-any
type Loose = any;
const api = (method: string, path: string, body?: unknown) =>
  muster.request<Loose>(method, `/api/v1${path}`, body ?? (method === 'POST' ? {} : undefined));

async function untilEnded(operationId: string): Promise<Loose> {
  let operation: Loose;
  await waitFor(async () => {
    operation = (await api('GET', `/operations/${operationId}`)).body;
    return operation.finishedAt !== null;
  }, BOUND_MS);
  return operation;
}

/** Turns a resource of the state into a create whose end nobody saw. */
async function leaveUnfinished(stackId: string, name: string): Promise<Loose> {
  let left: Loose;
  await changeState(muster.url, `eks-${stackId.slice('stk_'.length)}`, (state) => {
    const resources = state.deployment.resources ?? [];
    const made = resources.find(({ urn }) => urn.endsWith(`:NodeGroup::${name}`));
    if (!made) throw new Error(`there is no node group ${name}`);
    const { id, outputs: _outputs, ...resource } = made;
    left = { id, urn: resource.urn };
    return {
      ...state,
      deployment: {
        ...state.deployment,
        resources: resources.filter(({ urn }) => urn !== resource.urn),
        pending_operations: [{ resource, type: 'creating' }],
      },
    };
  });
  return left;
}

it(
  'shows a cluster and its price, makes exactly that, finds and heals an outside change, and destroys all of it',
  async () => {
    const config = { region: 'us-east-1', gpuNodeGroups: [{ instanceType: 'g5.xlarge', minSize: 1, maxSize: 2 }] };
    const made = await api('POST', '/stacks', {
      name: 'train',
      kind: 'eks',
      config,
      costCentre: 'research',
      ceilingUsdPerHour: '1.00',
    });
    expect(made.status).toBe(201);
    const path = `/stacks/${made.body.id}`;

    // Above the ceiling: shown with its price, and refused before anything is made.
    const dear = await api('POST', `${path}/preview`);
    expect(dear.status, JSON.stringify(dear.body)).toBe(200);
    expect(dear.body.violations).toMatchObject([{ rule: 'price_ceiling' }]);
    const refused = await untilEnded((await api('POST', `${path}/up`)).body.operation.id);
    expect(refused.error).toMatchObject({ code: 'policy_violated' });
    expect(clouds.resources()).toEqual([]);

    await api('PATCH', path, { ceilingUsdPerHour: '5.00' });
    const plan = (await api('POST', `${path}/preview`)).body;
    expect(plan.violations).toEqual([]);
    const nodes = plan.changes.find(({ type, name }: Loose) => type.endsWith(':NodeGroup') && name.includes('gpu'));
    // One g5.xlarge at 1.006 and its disk of 100 GiB at 0.08 / 730.
    expect(nodes.after).toMatchObject({ kind: 'amount', microUsdPerHour: 1_006_000 + 10_959 });
    const sum = plan.changes.reduce((total: number, { after }: Loose) => total + (after?.microUsdPerHour ?? 0), 0);
    expect(plan.priceMicroUsdPerHour).toBe(sum);
    expect(plan.priceMicroUsdPer30Days).toBe(sum * 720);

    const up = await untilEnded((await api('POST', `${path}/up`, { planHash: plan.planHash })).body.operation.id);
    expect(up.error).toBeNull();
    const stack = (await api('GET', path)).body;
    expect(stack).toMatchObject({ status: 'up', priceMicroUsdPerHour: sum });
    expect(stack.resourceCount).toBe(clouds.resources().length);
    expect((await api('GET', `${path}/outputs`)).body.outputs).toMatchObject({ kubeconfig: '[secret]' });
    const unchanged = (await api('POST', `${path}/preview`)).body;
    expect(unchanged.changes).toEqual([]);

    // The plan that was carried out binds nothing any more.
    const late = await untilEnded((await api('POST', `${path}/up`, { planHash: plan.planHash })).body.operation.id);
    expect(late.error).toMatchObject({ code: 'plan_changed' });

    const group = nodes.name as string;
    expect(clouds.drift({ type: 'NodeGroup', name: group, changes: { 'scalingConfig.desiredSize': 2 } })).toBe(1);
    await untilEnded((await api('POST', `${path}/refresh`)).body.operation.id);
    expect((await api('GET', `${path}/drift`)).body.items).toMatchObject([{ kind: 'changed', name: group }]);
    const heal = (await api('POST', `${path}/preview`)).body;
    expect(heal.changes).toMatchObject([{ op: 'update', name: group }]);
    expect(heal.deltaMicroUsdPerHour).toBe(-(1_006_000 + 10_959));
    await untilEnded((await api('POST', `${path}/up`)).body.operation.id);
    expect((await api('GET', path)).body.priceMicroUsdPerHour).toBe(sum);

    // What a kill leaves of a create, of which the cloud tells nothing that proves it ours: a person decides.
    const lost = await leaveUnfinished(made.body.id, group);
    expect(clouds.drift({ type: 'NodeGroup', name: group, changes: { tags: {}, tagsAll: {} } })).toBe(1);
    const held = await untilEnded((await api('POST', `${path}/up`)).body.operation.id);
    expect(held.error.detail).toMatch(
      /has to be decided: .* does not have the tags.*POST \/stacks\/.*\/pending\/decide/,
    );
    const { items } = (await api('GET', `${path}/pending`)).body;
    expect(items).toMatchObject([{ urn: lost.urn, found: [lost.id], decision: null }]);
    const decisions = [{ urn: lost.urn, decision: { kind: 'import', id: lost.id } }];
    expect((await api('POST', `${path}/pending/decide`, { decisions })).status).toBe(200);
    const resumed = await untilEnded((await api('POST', `${path}/up`)).body.operation.id);
    expect(resumed.error).toBeNull();
    expect((await api('GET', `${path}/pending`)).body.items).toEqual([]);
    expect((await api('GET', path)).body.resourceCount).toBe(clouds.resources().length);

    expect((await api('POST', `${path}/destroy`)).body.code).toBe('stack_protected');
    await api('PATCH', path, { protect: false });
    const destroyed = await untilEnded((await api('POST', `${path}/destroy`)).body.operation.id);
    expect(destroyed.error).toBeNull();
    expect((await api('GET', path)).body.status).toBe('destroyed');
  },
  BOUND_MS,
);
