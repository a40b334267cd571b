import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addTaken,
  hostPortsOf,
  placePod,
  SYSTEM_MEMORY_MIB,
  type NodeRoom,
  type PodNeeds,
} from '../../../domain/pods/schedule.ts';

const GIB = 1024;

function gpus(count: number, memoryGib = 24, model = 'NVIDIA GeForce RTX 4090') {
  return Array.from({ length: count }, (_, index) => ({
    index,
    uuid: `GPU-${index}`,
    model,
    memoryMib: memoryGib * GIB,
    isUsable: true,
  }));
}

function node(id: string, change: Partial<NodeRoom> = {}): NodeRoom {
  return {
    id,
    instanceId: null,
    labels: {},
    status: 'online',
    health: 'healthy',
    isCordoned: false,
    isFenced: false,
    hasEngine: true,
    gpus: gpus(2),
    memoryMib: 64 * GIB,
    cpus: 16,
    taken: { gpuIndexes: [], memoryMib: 0, cpus: 0, hostPorts: [] },
    ...change,
  };
}

function needs(change: Partial<PodNeeds> = {}): PodNeeds {
  return {
    nodeId: null,
    instanceId: null,
    gpuCount: 0,
    gpuModel: null,
    minGpuMemoryGib: null,
    labels: {},
    ports: [],
    resources: { cpus: null, memoryMib: null },
    preferredNodeId: null,
    avoidedNodeIds: [],
    ...change,
  };
}

const placed = (wanted: Partial<PodNeeds>, nodes: NodeRoom[]) => placePod(needs(wanted), nodes);

describe('placing a pod', () => {
  it('takes the fullest node that has room, so that gaps stay large', () => {
    const full = node('b', { taken: { gpuIndexes: [0], memoryMib: 0, cpus: 0, hostPorts: [] } });
    expect(placed({ gpuCount: 1 }, [node('a'), full])).toEqual({ nodeId: 'b', gpus: [{ index: 1, uuid: 'GPU-1' }] });
    expect(placed({ gpuCount: 2 }, [node('a'), full])).toMatchObject({ nodeId: 'a' });
  });

  it('gives the smallest GPU that is large enough', () => {
    const nodes = [node('a', { gpus: gpus(1, 80, 'NVIDIA A100 80GB') }), node('b', { gpus: gpus(4) })];
    expect(placed({ gpuCount: 1 }, nodes)).toMatchObject({ nodeId: 'b' });
    expect(placed({ gpuCount: 1, minGpuMemoryGib: 40 }, nodes)).toMatchObject({ nodeId: 'a' });
  });

  it('keeps pods without GPUs off nodes whose GPUs are free, where another has room', () => {
    expect(placed({}, [node('a'), node('b', { gpus: [], health: 'unknown' })])).toMatchObject({ nodeId: 'b' });
  });

  it('returns to where it was, and never to where it had to leave', () => {
    const nodes = [node('a'), node('b')];
    expect(placed({ preferredNodeId: 'b' }, nodes)).toMatchObject({ nodeId: 'b' });
    expect(placed({ avoidedNodeIds: ['a'] }, nodes)).toMatchObject({ nodeId: 'b' });
  });

  it('knows a model by any of its spellings', () => {
    expect(placed({ gpuCount: 1, gpuModel: 'RTX 4090' }, [node('a')])).toMatchObject({ nodeId: 'a' });
    expect(placed({ gpuCount: 1, gpuModel: 'H100 SXM' }, [node('a')])).toEqual({
      reason: 'no node fits: 1 without such GPUs',
    });
  });

  it.each<[string, Partial<NodeRoom>, Partial<PodNeeds>]>([
    ['cordoned', { isCordoned: true }, {}],
    ['fenced', { isFenced: true }, {}],
    ['not heard of', { status: 'stale' }, {}],
    ['not heard of', { status: 'installing' }, {}],
    ['gone', { status: 'gone' }, {}],
    ['not healthy', { health: 'failed' }, {}],
    ['not healthy', { health: 'degraded' }, {}],
    ['not healthy', { health: 'unknown', gpus: [] }, { gpuCount: 1 }],
    ['without a container engine', { hasEngine: false }, {}],
    ['without the label zone=b', { labels: { zone: 'a' } }, { labels: { zone: 'b' } }],
    ['without GPUs', { gpus: [] }, { gpuCount: 1 }],
    ['with too few free GPUs', { taken: { gpuIndexes: [0], memoryMib: 0, cpus: 0, hostPorts: [] } }, { gpuCount: 2 }],
    ['without such GPUs', {}, { gpuCount: 3 }],
    ['with too little free memory', { memoryMib: 1_024 }, { resources: { cpus: null, memoryMib: 1_000 } }],
    ['of unknown memory', { memoryMib: null }, { resources: { cpus: null, memoryMib: 1 } }],
    ['of unknown processors', { cpus: null }, { resources: { cpus: 1, memoryMib: null } }],
    ['with too few free processors', { cpus: 2 }, { resources: { cpus: 2.5, memoryMib: null } }],
    ['not the node that it asks for', {}, { nodeId: 'other' }],
    ['not of the instance that it asks for', {}, { instanceId: 'ins_1' }],
    ['it was there and had to leave', {}, { avoidedNodeIds: ['a'] }],
    [
      'port tcp/80 taken',
      { taken: { gpuIndexes: [], memoryMib: 0, cpus: 0, hostPorts: ['tcp/80'] } },
      { ports: [{ containerPort: 1, hostPort: 80, protocol: 'tcp' }] },
    ],
  ])('says "%s" where that is in the way', (reason, change, wanted) => {
    expect(placed(wanted, [node('a', change)])).toEqual({ reason: `no node fits: 1 ${reason}` });
  });

  it('counts what is in the way, what says most first', () => {
    const nodes = [node('a', { status: 'gone' }), node('b', { isCordoned: true }), node('c', { isCordoned: true })];
    expect(placed({}, nodes)).toEqual({ reason: 'no node fits: 2 cordoned, 1 gone' });
    expect(placed({}, [])).toEqual({ reason: 'there is no node' });
  });

  it('gives no GPU that something is wrong with', () => {
    const [first, second] = gpus(2);
    const bad = node('a', { gpus: [{ ...first!, isUsable: false }, second!] });
    expect(placed({ gpuCount: 1 }, [bad])).toEqual({ nodeId: 'a', gpus: [{ index: 1, uuid: 'GPU-1' }] });
  });
});

const someNode = (id: string): fc.Arbitrary<NodeRoom> =>
  fc
    .record({
      status: fc.constantFrom('online' as const, 'online' as const, 'stale' as const, 'gone' as const),
      health: fc.constantFrom(
        'healthy' as const,
        'healthy' as const,
        'unknown' as const,
        'degraded' as const,
        'failed' as const,
      ),
      isCordoned: fc.boolean(),
      isFenced: fc.constantFrom(false, false, true),
      hasEngine: fc.constantFrom(true, true, false),
      gpuCount: fc.integer({ min: 0, max: 8 }),
      broken: fc.integer({ min: 0, max: 7 }),
      memoryMib: fc.option(fc.integer({ min: 256, max: 65_536 })),
      cpus: fc.option(fc.integer({ min: 1, max: 32 })),
    })
    .map(({ gpuCount, broken, ...rest }) =>
      node(id, { ...rest, gpus: gpus(gpuCount).map((gpu) => ({ ...gpu, isUsable: gpu.index !== broken })) }),
    );
const someNodes = fc
  .integer({ min: 0, max: 5 })
  .chain((count) => fc.tuple(...Array.from({ length: count }, (_, n) => someNode(`nod_${n}`))));
const somePod: fc.Arbitrary<PodNeeds> = fc
  .record({
    gpuCount: fc.integer({ min: 0, max: 4 }),
    memoryMib: fc.option(fc.integer({ min: 1, max: 32_768 })),
    cpus: fc.option(fc.double({ min: 0.1, max: 16, noNaN: true })),
    hostPort: fc.option(fc.integer({ min: 1, max: 3 })),
  })
  .map(({ gpuCount, memoryMib, cpus, hostPort }) =>
    needs({ gpuCount, resources: { cpus, memoryMib }, ports: [{ containerPort: 80, hostPort, protocol: 'tcp' }] }),
  );

/** Places one after another, each on what the ones before left. */
function placeAll(nodes: readonly NodeRoom[], pods: readonly PodNeeds[]) {
  let world = [...nodes];
  const plans = pods.map((pod) => {
    const placement = placePod(pod, world);
    if ('nodeId' in placement) {
      world = world.map((one) => (one.id === placement.nodeId ? addTaken(one, pod, placement.gpus) : one));
    }
    return placement;
  });
  return { world, plans };
}

describe('whatever the nodes and the pods are', () => {
  it('neither GPUs nor memory nor processors nor ports are given twice', () => {
    fc.assert(
      fc.property(someNodes, fc.array(somePod, { maxLength: 30 }), (nodes, pods) => {
        for (const one of placeAll(nodes, pods).world) {
          const { gpuIndexes, hostPorts, memoryMib, cpus } = one.taken;
          expect(new Set(gpuIndexes).size).toBe(gpuIndexes.length);
          expect(gpuIndexes.every((index) => one.gpus.some((gpu) => gpu.index === index && gpu.isUsable))).toBe(true);
          expect(new Set(hostPorts).size).toBe(hostPorts.length);
          if (memoryMib > 0) expect(memoryMib).toBeLessThanOrEqual((one.memoryMib as number) - SYSTEM_MEMORY_MIB);
          if (cpus > 0) expect(cpus).toBeLessThanOrEqual(one.cpus as number);
        }
      }),
    );
  });

  it('a node that is cordoned, fenced, silent, unhealthy or without an engine is never chosen', () => {
    fc.assert(
      fc.property(someNodes, fc.array(somePod, { maxLength: 20 }), (nodes, pods) => {
        for (const plan of placeAll(nodes, pods).plans) {
          if (!('nodeId' in plan)) continue;
          expect(nodes.find(({ id }) => id === plan.nodeId)).toMatchObject({
            status: 'online',
            isCordoned: false,
            isFenced: false,
            hasEngine: true,
          });
          expect(['degraded', 'failed']).not.toContain(nodes.find(({ id }) => id === plan.nodeId)?.health);
        }
      }),
    );
  });

  it('the plan is the same in whatever order the nodes come', () => {
    fc.assert(
      fc.property(
        someNodes.chain((nodes) =>
          fc.tuple(fc.constant(nodes), fc.shuffledSubarray(nodes, { minLength: nodes.length })),
        ),
        somePod,
        ([nodes, shuffled], pod) => {
          expect(placePod(pod, shuffled)).toEqual(placePod(pod, nodes));
        },
      ),
    );
  });

  it('it is placed, or there is a reason that names every kind of node', () => {
    fc.assert(
      fc.property(someNodes, somePod, (nodes, pod) => {
        const plan = placePod(pod, nodes);
        if ('nodeId' in plan) expect(plan.gpus).toHaveLength(pod.gpuCount);
        else expect(plan.reason).toMatch(nodes.length === 0 ? /^there is no node$/ : /^no node fits: \d+ /);
      }),
    );
  });
});

it('ports that the engine chooses take none', () => {
  expect(hostPortsOf([{ containerPort: 80, hostPort: null, protocol: 'tcp' }])).toEqual([]);
});
