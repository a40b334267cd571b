/** What a renter does to pods: buys, changes, stops, starts and terminates them, with the vendor's rules and refusals. */
import { storageRate } from '../billing.ts';
import { findKeysInScript, isPublicKey } from '../public-keys.ts';
import type { NewRentalMachine } from '../rental/fleet.ts';
import type { RentalMarket } from '../rental/vendor.ts';
import type { RunpodAccount } from './account.ts';
import type { CreatePodBody, UpdatePodBody } from './bodies.ts';
import { GPU_TYPES } from './hardware.ts';
import { actionsOf, describePod, statusOf, type Pod, type PodAction, type PodDetails } from './pod.ts';
import { podNotFound, refuse } from './problems.ts';
import { keyOf, type Pool, type Stock } from './stock.ts';
import type { RunpodSwitches } from './switches.ts';

type Json = Record<string, unknown>;

export interface Pods {
  list(includesClusterPods: boolean): Json;
  read(id: string): Json;
  create(body: CreatePodBody): Json;
  update(id: string, body: UpdatePodBody): Json;
  /** null: the pod is terminated, there is nothing to show. */
  act(id: string, action: PodAction): Json | null;
  terminate(id: string): void;
  /** A pod that nobody bought through the API. */
  describePlaced(label: string): NewRentalMachine<PodDetails>;
  /** The pool that a purchase would be served from, whether or not there is something left. */
  poolOf(body: CreatePodBody): Pool | undefined;
}

/** Dollars per GB and month: disks of running pods, volumes of stopped ones. */
const RUNNING_DISK_MICRO_USD = 100_000;
const STOPPED_VOLUME_MICRO_USD = 200_000;
const NOT_ENOUGH_GPUS = 'There are not enough free GPUs on the host machine to start this pod.';
const DEFAULT_DISK_GB = 50;
/** What begins with it is a member of a cluster: hidden from the list, and managed through the cluster only. */
const CLUSTER_PREFIX = 'cluster-';

export function createPods(
  market: RentalMarket<PodDetails, RunpodSwitches>,
  stock: Stock,
  account: RunpodAccount,
): Pods {
  const { clock, fleet, purchases } = market;
  const { switches } = market;
  const show = (pod: Pod): Json => describePod(pod, switches(), clock.now());

  function find(id: string): Pod {
    const pod = fleet.find(id);
    if (pod === undefined) throw podNotFound();
    return pod;
  }

  /** A pod that may be changed here. */
  function findOwn(id: string): Pod {
    const pod = find(id);
    if (pod.details.cluster !== null) throw refuse(409, 'pod belongs to a cluster; manage it through the cluster');
    return pod;
  }

  function choosePool(body: CreatePodBody): Pool | undefined {
    const cloud = body.cloud ?? 'SECURE';
    const gpuTypeId = body.gpu?.id ?? '';
    const count = body.gpu?.count ?? 1;
    const wanted = body.dataCenterIds ?? [];
    const pools = stock.pools(cloud).filter(({ type, dataCenter }) => {
      if (type.id !== gpuTypeId) return false;
      return wanted.length === 0 || (dataCenter !== null && wanted.includes(dataCenter.id));
    });
    // In the order of preference; without one, where most is free.
    pools.sort((a, b) =>
      wanted.length === 0
        ? stock.freeGpus(b) - stock.freeGpus(a)
        : wanted.indexOf(a.dataCenter?.id ?? '') - wanted.indexOf(b.dataCenter?.id ?? ''),
    );
    return pools.find((pool) => stock.canServe(pool, count)) ?? pools[0];
  }

  function checkRules(body: CreatePodBody): void {
    if ((body.gpu === undefined) === (body.cpu === undefined))
      throw refuse(400, 'exactly one of gpu or cpu must be set');
    if (body.templateId !== undefined) throw refuse(404, 'template not found');
    if (body.image === undefined) throw refuse(422, 'Request validation failed.', ["$: missing property 'image'"]);
    if (body.mounts?.persistent !== undefined && body.mounts.network !== undefined)
      throw refuse(400, 'mounts.persistent and mounts.network are mutually exclusive');
    if (body.gpu?.minCudaVersion !== undefined && (body.gpu.allowedCudaVersions ?? []).length > 0)
      throw refuse(400, 'gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive');
    for (const port of body.ports ?? [])
      if (!/^\d{1,5}\/(tcp|udp|http)$/.test(port)) throw refuse(400, `ports must be port/protocol, got "${port}"`);
  }

  function stopIfBroke(): void {
    if (!account.isBroke()) return;
    for (const pod of fleet.all()) if (pod.destroyedAtMs === null) stop(pod);
  }

  function stop(pod: Pod): void {
    if (statusOf(pod, switches()) === 'EXITED') return;
    const { volume } = pod.details;
    fleet.update(pod, { details: { ...pod.details, lastStartedAtMs: pod.runningSinceMs } });
    // The container's disk is wiped and free of charge; a volume costs twice.
    pod.storageMicroUsdPerHour = storageRate(volume?.size ?? 0, STOPPED_VOLUME_MICRO_USD);
    fleet.stop(pod);
  }

  function start(pod: Pod): void {
    const { zeroGpuRestart } = switches();
    const pool = stock.find(pod.details.cloud, pod.details.gpuTypeId, pod.details.dataCenterId);
    const hasRoom = pod.status !== 'stopped' || (pool !== undefined && stock.freeGpus(pool) >= pod.gpuCount);
    if (zeroGpuRestart === 'refused' || (zeroGpuRestart === 'off' && !hasRoom)) throw refuse(400, NOT_ENOUGH_GPUS);
    if (zeroGpuRestart === 'shown' || zeroGpuRestart === 'hidden') loseGpus(pod, zeroGpuRestart);
    const gigabytes = pod.details.diskGb + (pod.details.volume?.size ?? 0);
    pod.storageMicroUsdPerHour = storageRate(gigabytes, RUNNING_DISK_MICRO_USD);
    movePort(pod);
    fleet.start(pod);
  }

  function loseGpus(pod: Pod, how: 'shown' | 'hidden'): void {
    pod.computeMicroUsdPerHour = 0;
    fleet.update(pod, {
      faults: { ...pod.faults, wrongGpu: { gpuName: pod.gpuName, numGpus: 0 } },
      details: { ...pod.details, shownGpuCount: how === 'shown' ? 0 : pod.gpuCount },
    });
  }

  function movePort(pod: Pod): void {
    if (switches().doPortsChange) pod.sshPort = null;
  }

  function terminate(pod: Pod): void {
    if (pod.details.isLocked) throw refuse(409, 'pod is locked');
    fleet.destroy(pod, switches().terminatedForMs ?? undefined);
  }

  return {
    poolOf: choosePool,

    list(includesClusterPods) {
      stopIfBroke();
      const pods = fleet
        .listed(switches().listLagMs)
        .filter(({ details }) => includesClusterPods || details.cluster === null);
      return { pods: pods.map(show) };
    },
    read(id) {
      stopIfBroke();
      return show(find(id));
    },

    create(body) {
      checkRules(body);
      stopIfBroke();
      if (account.isBroke()) throw refuse(402, 'insufficient balance');
      const pool = choosePool(body);
      const count = body.gpu?.count ?? 1;
      if (pool === undefined || !stock.canServe(pool, count)) throw refuse(400, switches().capacityDetail);
      if (switches().forbiddenGpus.includes(pool.type.model.name))
        throw refuse(403, 'access denied to the requested pool');
      const wanted = describeBought(body, pool, count);
      if (account.isOverLimit(wanted.computeMicroUsdPerHour)) throw refuse(402, 'spend limit of the account reached');
      const pod = fleet.create(wanted, 'bought', 'boot', (id) => purchases.count(body.name, 'accepted', id));
      return show(pod);
    },

    update(id, body) {
      const pod = findOwn(id);
      if (body.templateId !== undefined) throw refuse(404, 'template not found');
      if (body.mounts?.network !== undefined) throw refuse(400, 'the kind of a mount is fixed at create');
      if (body.mounts?.persistent !== undefined && pod.details.volume === null)
        throw refuse(400, 'the kind of a mount is fixed at create');
      const { details } = pod;
      fleet.update(pod, {
        label: body.name ?? pod.label,
        env: body.env ?? pod.env,
        details: {
          ...details,
          image: body.image ?? details.image,
          args: body.args ?? details.args,
          diskGb: body.disk ?? details.diskGb,
          ports: body.ports ?? details.ports,
          registry: body.registry === undefined ? details.registry : body.registry,
          volume: body.mounts?.persistent ?? details.volume,
          isLocked: body.locked ?? details.isLocked,
          isGloballyNetworked: body.globalNetworking ?? details.isGloballyNetworked,
        },
      });
      return show(pod);
    },

    act(id, action) {
      const pod = findOwn(id);
      if (!actionsOf(pod, switches()).includes(action)) throw refuse(409, 'action not valid for current pod status');
      if (pod.details.isLocked && (action === 'stop' || action === 'restart')) throw refuse(409, 'pod is locked');
      if (action === 'terminate') {
        terminate(pod);
        return null;
      }
      if (action === 'start') start(pod);
      else if (action === 'stop') stop(pod);
      else {
        movePort(pod);
        fleet.restart(pod);
      }
      return show(pod);
    },

    terminate: (id) => terminate(findOwn(id)),

    describePlaced(label) {
      const pool = stock.pools('SECURE')[0]!;
      const body: CreatePodBody = { name: label, image: 'runpod/pytorch:2.8.0', ports: ['22/tcp'] };
      const placed = describeBought(body, pool, 1);
      const cluster = label.startsWith(CLUSTER_PREFIX) ? { id: 'clstr7h9k2m4n', rank: 0 } : null;
      // Not of the vendor's shown stock: it was there before.
      return {
        ...placed,
        offerKey: keyOf('SECURE', GPU_TYPES[0]!.id, 'placed'),
        details: { ...placed.details, cluster },
      };
    },
  };

  function describeBought(body: CreatePodBody, pool: Pool, gpuCount: number): NewRentalMachine<PodDetails> {
    const env = { ...body.env };
    const accountKeys = account.sshKeys();
    if (body.startSsh === true && env['PUBLIC_KEY'] === undefined && accountKeys.length > 0)
      env['PUBLIC_KEY'] = accountKeys.join('\n');
    const diskGb = body.disk ?? DEFAULT_DISK_GB;
    const volume = body.mounts?.persistent ?? null;
    const image = body.image ?? '';
    return {
      label: body.name,
      offerKey: pool.key,
      gpuName: pool.type.model.name,
      gpuCount,
      computeMicroUsdPerHour: stock.gpuPrice(pool.type, pool.cloud) * gpuCount,
      storageMicroUsdPerHour: storageRate(diskGb + (volume?.size ?? 0), RUNNING_DISK_MICRO_USD),
      billing: { whileBooting: true, whileStopped: 'storage' },
      publicKeys: readPublicKeys(env, body.args ?? '', image),
      startupScript: readStartupScript(body.args ?? '', env),
      env,
      details: {
        gpuTypeId: pool.type.id,
        image,
        args: body.args ?? '',
        diskGb,
        ports: body.ports ?? [],
        volume,
        registry: body.registry ?? null,
        cloud: pool.cloud,
        dataCenterId: pool.dataCenter?.id ?? null,
        isLocked: false,
        isGloballyNetworked: body.globalNetworking ?? false,
        cluster: null,
        shownGpuCount: gpuCount,
        lastStartedAtMs: null,
      },
    };
  }

  /** Images that honour the convention let in every line of PUBLIC_KEY; what the arguments write themselves counts too. */
  function readPublicKeys(env: Record<string, string>, args: string, image: string): string[] {
    const { imagesWithoutSshd } = switches();
    if (imagesWithoutSshd !== null && new RegExp(imagesWithoutSshd).test(image)) return [];
    const lines = (env['PUBLIC_KEY'] ?? '').split('\n').map((line) => line.trim());
    return [...new Set([...lines.filter(isPublicKey), ...findKeysInScript(args)])];
  }
}

/** The vendor has no field for a script: arguments of the container that decode one out of its environment run it. */
function readStartupScript(args: string, env: Record<string, string>): string | null {
  const name = /"\$\{?([A-Za-z_]\w*)\}?"\s*\|\s*base64 (?:-d|--decode)/.exec(args)?.[1];
  const encoded = name === undefined ? undefined : env[name];
  return encoded === undefined ? null : Buffer.from(encoded, 'base64').toString('utf8');
}
