/** Where the simulated Google Cloud is: zones, what machine types they lack and which GPUs go with them. As of late 2025, a choice. */

export const PROJECT_NUMBER = '415104041262';

/** GPU machine families and accelerators per zone; zones that are not here have neither. */
const GPU_ZONES: Record<string, readonly string[]> = {
  'us-central1-a': ['a2', 'a3', 'g2', 'nvidia-tesla-t4', 'nvidia-tesla-v100', 'nvidia-tesla-p100', 'nvidia-tesla-p4'],
  'us-central1-b': ['a2', 'g2', 'a4', 'nvidia-tesla-t4', 'nvidia-tesla-v100'],
  'us-central1-c': ['a2', 'a3', 'g2', 'nvidia-tesla-t4', 'nvidia-tesla-p100'],
  'us-central1-f': ['a2', 'nvidia-tesla-t4', 'nvidia-tesla-p100'],
  'us-east1-b': ['a2', 'g2'],
  'us-east1-c': ['nvidia-tesla-t4'],
  'us-east1-d': ['g2', 'nvidia-tesla-t4'],
  'us-east4-a': ['a3', 'g2', 'nvidia-tesla-t4'],
  'us-east4-c': ['a2', 'a3', 'g2'],
  'us-west1-a': ['g2', 'a3', 'nvidia-tesla-t4', 'nvidia-tesla-v100'],
  'us-west1-b': ['a2', 'g2', 'nvidia-tesla-t4', 'nvidia-tesla-v100'],
  'us-west4-a': ['g2', 'a3'],
  'europe-west1-b': ['g2', 'a3', 'nvidia-tesla-t4'],
  'europe-west1-c': ['g2', 'a3', 'nvidia-tesla-t4'],
  'europe-west4-a': ['a2', 'g2', 'nvidia-tesla-t4', 'nvidia-tesla-v100'],
  'europe-west4-b': ['a2', 'a3', 'g2', 'nvidia-tesla-t4'],
  'europe-west4-c': ['a3', 'g2', 'nvidia-tesla-t4'],
  'asia-southeast1-b': ['a2', 'a3', 'g2', 'nvidia-tesla-t4'],
};

const REGIONS: Record<string, string> = {
  'us-central1': 'abcf',
  'us-east1': 'bcd',
  'us-east4': 'abc',
  'us-west1': 'abc',
  'us-west4': 'abc',
  'europe-west1': 'bcd',
  'europe-west3': 'abc',
  'europe-west4': 'abc',
  'europe-north1': 'abc',
  'asia-northeast1': 'abc',
  'asia-southeast1': 'abc',
};

const CPU_FAMILIES = new Set('e2 n1 n2 n2d n4 c2 c2d c3 c3d c4 c4a t2d t2a m1 m2 m3 z3 h3 f1 g1'.split(' '));
const GPU_FAMILIES = new Set('a2 a3 a4 g2'.split(' '));

export function zonesOfRegion(region: string): string[] {
  return Array.from(REGIONS[region] ?? '').map((letter) => `${region}-${letter}`);
}

export function isRegion(region: string): boolean {
  return region in REGIONS;
}

export function isZone(zone: string): boolean {
  return zonesOfRegion(regionOfZone(zone)).includes(zone);
}

export function regionOfZone(zone: string): string {
  return zone.replace(/-[a-z]$/, '');
}

export function hasMachineType(type: string, zone: string): boolean {
  const family = type.split('-')[0]!;
  if (GPU_FAMILIES.has(family)) return GPU_ZONES[zone]?.includes(family) === true;
  return family === 'custom' || (CPU_FAMILIES.has(family) && /^[a-z0-9]+-[a-z0-9-]+$/.test(type));
}

export function hasAccelerator(type: string, zone: string): boolean {
  return GPU_ZONES[zone]?.includes(type) === true;
}

export function isGpuMachine(type: string): boolean {
  return GPU_FAMILIES.has(type.split('-')[0]!);
}
