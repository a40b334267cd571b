/** Where the simulated Azure is: its one subscription, its locations and which sizes of machines they lack. */

export const SUBSCRIPTION_ID = '0b1f6471-1bf0-4dda-aec3-cb9272f09590';
export const TENANT_ID = '72f988bf-86f1-41af-91ab-2d7cd011db47';

/** By name: the GPU families that are not offered there. A choice of the real ones, as of late 2025. */
export const LOCATIONS: Record<string, { lacks: readonly string[] }> = {
  eastus: { lacks: [] },
  eastus2: { lacks: ['ND96isrMI300X'] },
  southcentralus: { lacks: ['ND96isrMI300X'] },
  westus2: { lacks: ['ND96isrMI300X', 'ND96isrH200'] },
  westus3: { lacks: [] },
  westeurope: { lacks: ['ND96isrH100', 'ND96isrH200', 'ND96isrMI300X'] },
  northeurope: { lacks: ['NC40ads', 'NC80adis', 'ND96isrH100', 'ND96isrH200', 'ND96isrMI300X'] },
  swedencentral: { lacks: ['ND96isrMI300X'] },
  uksouth: { lacks: ['ND96isrMI300X'] },
  germanywestcentral: {
    lacks: ['NC40ads', 'NC80adis', 'ND96isrH100', 'ND96isrH200', 'ND96isrMI300X', 'NC24ads', 'NC48ads', 'NC96ads'],
  },
};

/** `West Europe` and `westeurope` are the same. */
export function plainLocation(location: unknown): string {
  return String(location).toLowerCase().replaceAll(' ', '');
}

const SIZE =
  /^Standard_(?<family>(A|B|D|DC|DS|E|EC|F|FX|L|M|NC|ND|NG|NV|NP|HB|HC|HX)[A-Za-z]*\d+[A-Za-z0-9-]*)(_[A-Za-z0-9]+)*$/;

export function vmSizeTrouble(size: string, location: string): 'unknown' | 'not_here' | undefined {
  const family = SIZE.exec(size)?.groups?.family;
  if (family === undefined) return 'unknown';
  const compact = size.replace('Standard_', '').replaceAll('_', '');
  const lacks = LOCATIONS[plainLocation(location)]?.lacks ?? [];
  return lacks.some((one) => compact.startsWith(one)) ? 'not_here' : undefined;
}

/** What AKS offers; the last but one is what it takes when none is named. */
export const AKS_VERSIONS = ['1.30', '1.31', '1.32', '1.33', '1.34', '1.35'];
export const AKS_DEFAULT_VERSION = '1.34';
