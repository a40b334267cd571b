/**
 * RunPod's GPU types in our names. The vendor orders by the driver's name ("NVIDIA H100 80GB HBM3") and shows another ("H100
 * SXM"); ours are Vast.ai's, because a request names one model for all providers. A type that is not listed here keeps the
 * vendor's shown name.
 */

/** From the vendor's page "GPU types", where the two differ by more than the brand. Keys: the vendor's id in lower case. */
const NAMES: Record<string, string> = {
  'nvidia a100 80gb pcie': 'A100 PCIE',
  'nvidia a100-sxm4-80gb': 'A100 SXM4',
  'nvidia b300 sxm6 ac': 'B300',
  'nvidia geforce rtx 4070 ti super': 'RTX 4070S Ti',
  'nvidia geforce rtx 4080 super': 'RTX 4080S',
  'nvidia h100 80gb hbm3': 'H100 SXM',
  'nvidia h100 nvl': 'H100 NVL',
  'nvidia h100 pcie': 'H100 PCIE',
  'nvidia h200': 'H200',
  'nvidia h200 nvl': 'H200 NVL',
  'nvidia rtx 2000 ada generation': 'RTX 2000Ada',
  'nvidia rtx 4000 ada generation': 'RTX 4000Ada',
  'nvidia rtx 4000 sff ada generation': 'RTX 4000 SFF Ada',
  'nvidia rtx 5000 ada generation': 'RTX 5000Ada',
  'nvidia rtx 6000 ada generation': 'RTX 6000Ada',
  'nvidia rtx pro 4500 blackwell': 'RTX PRO 4500',
  'nvidia rtx pro 6000 blackwell max-q workstation edition': 'RTX PRO 6000 Max-Q',
  'nvidia rtx pro 6000 blackwell server edition': 'RTX PRO 6000 S',
  'nvidia rtx pro 6000 blackwell server edition mig 1g.24gb': 'RTX PRO 6000 MIG 24GB',
  'nvidia rtx pro 6000 blackwell server edition mig 2g.48gb': 'RTX PRO 6000 MIG 48GB',
  'nvidia rtx pro 6000 blackwell workstation edition': 'RTX PRO 6000 WS',
  'tesla v100-pcie-16gb': 'Tesla V100 PCIE',
  'tesla v100-sxm2-16gb': 'Tesla V100',
  'tesla v100-sxm2-32gb': 'Tesla V100 32GB',
};

/** @param shownName the vendor's own, where it gives one (a pod has only the id) */
export function canonicalGpuName(gpuTypeId: string, shownName: string | null = null): string {
  return NAMES[gpuTypeId.trim().toLowerCase()] ?? withoutBrand(shownName ?? gpuTypeId);
}

function withoutBrand(name: string): string {
  return name
    .trim()
    .replace(/^nvidia\s+(geforce\s+)?/i, '')
    .replace(/\s+/g, ' ');
}
