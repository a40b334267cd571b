/** A provider: a vendor we rent from. This module names them and the facts the rules need; how to talk to one is providers-dynamic's. */
export const PROVIDER_NAMES = ['vastai', 'tensordock', 'runpod', 'lambda'] as const;
export type ProviderName = (typeof PROVIDER_NAMES)[number];

export interface ProviderFacts {
  /** As the vendor writes itself. */
  title: string;
  /**
   * What is rented: a `container` runs the image that a request names; a `vm` boots the vendor's own Ubuntu with NVIDIA's driver,
   * so a request for a container image of its own is not offered there.
   */
  machineKind: 'container' | 'vm';
}

export const PROVIDER_FACTS: Record<ProviderName, ProviderFacts> = {
  vastai: { title: 'Vast.ai', machineKind: 'container' },
  tensordock: { title: 'TensorDock', machineKind: 'vm' },
  runpod: { title: 'RunPod', machineKind: 'container' },
  lambda: { title: 'Lambda', machineKind: 'vm' },
};

export function isProviderName(text: string): text is ProviderName {
  return (PROVIDER_NAMES as readonly string[]).includes(text);
}
