/** The vendors that the sandbox simulates, in the order of their ports after the control server's. A new one is one line here. */
import { createLambdaVendor } from './lambda/vendor.ts';
import { createRunpodVendor } from './runpod/vendor.ts';
import { createTensordockVendor } from './tensordock/vendor.ts';
import { createVastaiVendor } from './vastai/vendor.ts';
import type { SandboxVendor } from './vendor.ts';

/** The port after the control server's, for each; a vendor keeps its place. */
export const VENDOR_PORTS = { vastai: 1, tensordock: 2, runpod: 3, lambda: 4 } as const;

export function createVendors(): SandboxVendor[] {
  return [createVastaiVendor(), createTensordockVendor(), createRunpodVendor(), createLambdaVendor()];
}
