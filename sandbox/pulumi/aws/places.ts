/** Where the simulated AWS is: its one account, its regions and what they have. A choice of the real ones, as of late 2025. */

export const ACCOUNT_ID = '123456789012';

const REGIONS: Record<string, { zones: string; lacks: readonly string[] }> = {
  'us-east-1': { zones: 'abcdf', lacks: [] },
  'us-east-2': { zones: 'abc', lacks: ['dl1', 'dl2q'] },
  'us-west-2': { zones: 'abcd', lacks: [] },
  'eu-west-1': { zones: 'abc', lacks: ['dl1', 'dl2q', 'p6-b200', 'p5en', 'trn1', 'trn2'] },
  'eu-central-1': { zones: 'abc', lacks: ['dl1', 'dl2q', 'p6-b200', 'p5', 'p5e', 'p5en', 'p4de', 'trn1', 'trn2'] },
  'ap-northeast-1': { zones: 'acd', lacks: ['dl1', 'p6-b200', 'p4de', 'trn1'] },
  'ap-southeast-2': { zones: 'abc', lacks: ['dl1', 'p6-b200', 'p5e', 'p4d', 'p4de', 'trn1', 'trn2'] },
};

/** Families that exist; the size is not looked up. */
const FAMILIES = new Set(
  (
    't2 t3 t3a t4g m5 m5a m5d m5n m6a m6i m6g m6id m7a m7i m7g m7i-flex m8g m8i c5 c5a c5n c6a c6i c6g c7a c7i c7g c8g r5 r5a r6a r6i r6g r7a r7i r7g r8g ' +
    'x1 x2idn i3 i3en i4i i7ie d3 z1d p2 p3 p3dn p4d p4de p5 p5e p5en p6-b200 g4dn g4ad g5 g5g g6 g6e gr6 dl1 dl2q inf1 inf2 trn1 trn1n trn2'
  ).split(' '),
);

export function zonesOf(region: string): string[] {
  const letters = REGIONS[region]?.zones ?? 'abc';
  return Array.from(letters).map((letter) => `${region}${letter}`);
}

export function instanceTypeTrouble(type: string, region: string): 'unknown' | 'not_here' | undefined {
  const [family = '', size = ''] = type.split('.');
  if (!FAMILIES.has(family) || !/^(nano|micro|small|medium|large|\d*xlarge|metal(-\d+xl)?)$/.test(size))
    return 'unknown';
  return REGIONS[region]?.lacks.includes(family) === true ? 'not_here' : undefined;
}

/** The versions of Kubernetes that EKS takes; the last but one is what it takes when none is named. */
export const EKS_VERSIONS = ['1.29', '1.30', '1.31', '1.32', '1.33', '1.34', '1.35'];
export const EKS_DEFAULT_VERSION = '1.34';
