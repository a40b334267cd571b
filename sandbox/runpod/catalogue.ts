/** The catalogue on the wire: GPU types with their prices, data centers, and a word for the stock where it is asked for. */
import { refuse } from './problems.ts';
import { countryOf, DATA_CENTERS, GPU_TYPES, type DataCenter, type GpuType } from './hardware.ts';
import type { Cloud, Level, Pool, Stock } from './stock.ts';

type Json = Record<string, unknown>;

export interface Catalogue {
  gpus(query: URLSearchParams): Json;
  gpu(id: string, query: URLSearchParams): Json;
  dataCenters(query: URLSearchParams): Json;
  dataCenter(id: string, query: URLSearchParams): Json;
}

const LEVELS: readonly Level[] = ['NONE', 'LOW', 'MEDIUM', 'HIGH'];
/** What the hosts of every type report. */
const CUDA_VERSIONS = ['12.4', '12.6', '12.8'];

interface Asked {
  hasAvailability: boolean;
  count: number;
  cloud: Cloud;
  /** Empty: anywhere. */
  countries: string[];
}

export function createCatalogue(stock: Stock): Catalogue {
  const poolsOf = (type: GpuType, asked: Asked): Pool[] =>
    stock
      .pools(asked.cloud)
      .filter((pool) => pool.type === type)
      .filter(
        ({ dataCenter }) =>
          asked.countries.length === 0 || (dataCenter !== null && asked.countries.includes(countryOf(dataCenter))),
      );

  function describeGpu(type: GpuType, asked: Asked): Json {
    const { id, name, pool, memoryGb, maxSecure, maxCommunity } = type;
    const basics = {
      id,
      name,
      pool,
      manufacturer: 'NVIDIA',
      memory: memoryGb,
      secure: maxSecure > 0,
      community: maxCommunity > 0,
      price: { secure: stock.gpuPrice(type, 'SECURE') / 1e6, community: stock.gpuPrice(type, 'COMMUNITY') / 1e6 },
      maxCount: { secure: maxSecure, community: maxCommunity },
    };
    if (!asked.hasAvailability) return basics;
    const pools = poolsOf(type, asked);
    const levels = pools.map((each) => stock.level(each, asked.count));
    const best = levels.reduce<Level>((a, b) => (LEVELS.indexOf(b) > LEVELS.indexOf(a) ? b : a), 'NONE');
    const dataCenters = pools.flatMap(({ dataCenter }, index) =>
      dataCenter === null || levels[index] === 'NONE'
        ? []
        : [{ id: dataCenter.id, name: dataCenter.name, availability: levels[index] }],
    );
    return {
      ...basics,
      availability: best,
      // Left out altogether where there is none: not an empty list.
      ...(dataCenters.length === 0 ? {} : { dataCenters }),
      cudaVersions: CUDA_VERSIONS.map((version) => ({ version, available: best !== 'NONE' })),
    };
  }

  function describeDataCenter(dataCenter: DataCenter, hasGpus: boolean): Json {
    const { id, name, region } = dataCenter;
    const gpuAvailability = stock
      .pools('SECURE')
      .filter((pool) => pool.dataCenter === dataCenter)
      .map((pool) => ({ id: pool.type.id, name: pool.type.name, availability: stock.level(pool, 1) }));
    return {
      id,
      name,
      region,
      globalNetwork: true,
      networkVolumeTypes: ['STANDARD'],
      compliance: ['SOC_2_TYPE_2'],
      ...(hasGpus && gpuAvailability.length > 0 ? { gpuAvailability } : {}),
    };
  }

  return {
    gpus(query) {
      const asked = readAsked(query);
      const types = GPU_TYPES.filter((type) => asked.countries.length === 0 || poolsOf(type, asked).length > 0);
      return { gpus: types.map((type) => describeGpu(type, asked)) };
    },
    gpu(id, query) {
      const type = GPU_TYPES.find((each) => each.id === id);
      if (type === undefined) throw refuse(404, 'GPU type not found');
      return describeGpu(type, readAsked(query));
    },
    dataCenters(query) {
      const hasGpus = readList(query, 'include').includes('GPU_AVAILABILITY');
      const regions = readList(query, 'regions');
      const wanted = DATA_CENTERS.filter(({ region }) => regions.length === 0 || regions.includes(region));
      return { dataCenters: wanted.map((dataCenter) => describeDataCenter(dataCenter, hasGpus)) };
    },
    dataCenter(id, query) {
      const dataCenter = DATA_CENTERS.find((each) => each.id === id);
      if (dataCenter === undefined) throw refuse(404, 'data center not found');
      return describeDataCenter(dataCenter, readList(query, 'include').includes('GPU_AVAILABILITY'));
    },
  };
}

/** Stock differs by product, so asking for it without naming one is an error, and so is everything that only scopes it. */
function readAsked(query: URLSearchParams): Asked {
  const include = readList(query, 'include');
  if (include.some((each) => each !== 'AVAILABILITY'))
    throw refuse(422, 'Request validation failed.', ["include: value must be 'AVAILABILITY'"]);
  const hasAvailability = include.length > 0;
  const scoping = ['product', 'count', 'cloud', 'countryCodes', 'cudaVersions', 'minCudaVersion'];
  const stray = scoping.find((name) => query.has(name));
  if (!hasAvailability && stray !== undefined) throw refuse(400, `${stray} is valid only with include=AVAILABILITY`);
  if (hasAvailability && readList(query, 'product').length === 0)
    throw refuse(400, 'include=AVAILABILITY requires product');
  const count = Number(query.get('count') ?? '1');
  if (!Number.isInteger(count) || count < 1)
    throw refuse(422, 'Request validation failed.', ['count: got no integer of at least 1']);
  const cloud = query.get('cloud') ?? 'SECURE';
  if (cloud !== 'SECURE' && cloud !== 'COMMUNITY')
    throw refuse(422, 'Request validation failed.', ["cloud: value must be one of 'SECURE', 'COMMUNITY'"]);
  return { hasAvailability, count, cloud, countries: readList(query, 'countryCodes') };
}

function readList(query: URLSearchParams, name: string): string[] {
  return (query.get(name) ?? '').split(',').filter((each) => each !== '');
}
