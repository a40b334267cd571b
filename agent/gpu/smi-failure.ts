/** What a failed nvidia-smi says: the only place that looks into its words. The exit code is NVML's return code, mostly. */

export interface SmiResult {
  /** null: it did not end by itself. */
  code: number | null;
  stdout: string;
  stderr: string;
  /** `timeout`: killed after the time limit. `busy`: the one before was killed and has not ended yet. `missing`: there is no such program. */
  end: 'exited' | 'timeout' | 'busy' | 'missing';
}

export interface SmiFailure {
  verdict: 'failed' | 'unknown';
  kind: 'invalid_field' | 'unreadable' | 'gpu_lost' | 'no_devices' | 'driver' | 'hardware' | 'hang' | 'other';
  reason: string;
}

const KNOWN: readonly { text: RegExp; code?: number; failure: SmiFailure }[] = [
  {
    text: /is not a valid field to query/i,
    failure: {
      verdict: 'unknown',
      kind: 'invalid_field',
      reason: 'the driver does not know a field that was asked for',
    },
  },
  {
    text: /couldn't communicate with the NVIDIA driver/i,
    code: 9,
    failure: { verdict: 'failed', kind: 'driver', reason: 'the NVIDIA driver is not loaded' },
  },
  {
    text: /driver\/library version mismatch/i,
    code: 18,
    failure: {
      verdict: 'failed',
      kind: 'driver',
      reason: 'driver and library have different versions: a reboot is needed',
    },
  },
  {
    text: /unable to determine the device handle|GPU is lost/i,
    code: 15,
    failure: { verdict: 'failed', kind: 'gpu_lost', reason: 'a GPU fell off the bus' },
  },
  {
    text: /no devices were found/i,
    code: 6,
    failure: { verdict: 'failed', kind: 'no_devices', reason: 'the driver finds no usable GPU' },
  },
  {
    text: /failed to initialize NVML/i,
    failure: {
      verdict: 'failed',
      kind: 'driver',
      reason: 'the driver cannot be used (has the container lost its devices?)',
    },
  },
  {
    text: /insufficient permissions/i,
    code: 4,
    failure: { verdict: 'unknown', kind: 'other', reason: 'no permission to read the GPUs' },
  },
];
const BY_CODE: Readonly<Record<number, SmiFailure>> = {
  2: { verdict: 'unknown', kind: 'invalid_field', reason: 'nvidia-smi refuses the question' },
  3: { verdict: 'unknown', kind: 'other', reason: 'the device does not support the question' },
  8: { verdict: 'failed', kind: 'hardware', reason: "a GPU's power cable is not attached" },
  10: { verdict: 'failed', kind: 'hardware', reason: 'a GPU has trouble with its interrupts' },
  12: { verdict: 'failed', kind: 'driver', reason: 'the NVML library is missing' },
  13: { verdict: 'failed', kind: 'driver', reason: 'the NVML library is too old for nvidia-smi' },
  14: { verdict: 'failed', kind: 'hardware', reason: 'the infoROM of a GPU is corrupted' },
};

/**
 * null: it worked. The text counts too, because some versions say "No devices were found" and end with 0.
 * What comes of an answer that worked and cannot be read is the reader's.
 */
export function describeFailure(result: SmiResult, timeoutMs: number): SmiFailure | null {
  switch (result.end) {
    case 'timeout':
      return hang(`nvidia-smi did not end within ${timeoutMs / 1000} s: the driver hangs`);
    case 'busy':
      return hang('an nvidia-smi that was killed has not ended yet: the driver hangs');
    case 'missing':
      return { verdict: 'unknown', kind: 'other', reason: 'nvidia-smi is not there' };
    case 'exited':
      return describeExit(result);
  }
}

function describeExit({ code, stdout, stderr }: SmiResult): SmiFailure | null {
  const text = `${stdout}\n${stderr}`;
  const isTable = code === 0 && !/^(no devices were found|NVIDIA-SMI has failed|Failed to initialize)/im.test(text);
  if (isTable) return null;
  const known = KNOWN.find((one) => one.text.test(text)) ?? KNOWN.find((one) => one.code === code);
  if (known) return known.failure;
  if (code === 127) return { verdict: 'unknown', kind: 'other', reason: 'nvidia-smi is not there' };
  const coded = code === null ? undefined : BY_CODE[code];
  if (coded) return coded;
  return { verdict: 'failed', kind: 'other', reason: `nvidia-smi ended with ${code ?? 'a signal'}` };
}

function hang(reason: string): SmiFailure {
  return { verdict: 'failed', kind: 'hang', reason };
}

/** It worked, and what it printed is nothing that we know. */
export const UNREADABLE: SmiFailure = {
  verdict: 'unknown',
  kind: 'unreadable',
  reason: "nvidia-smi's answer cannot be read",
};
