/** What `nvidia-smi -L` prints: GPUs, and under each its MIG devices. */

export interface ListedGpu {
  index: number;
  name: string;
  uuid: string;
  migDevices: { index: number; profile: string; uuid: string }[];
}

const GPU_LINE = /^GPU (\d{1,4}): (.{1,200}) \(UUID: (GPU-[0-9a-fA-F-]+)\)$/;
const MIG_LINE = /^\s+MIG (\S+)\s+Device\s+(\d{1,4}): \(UUID: (MIG-[0-9A-Za-z/-]+)\)$/;

/** null: it is no such list. */
export function parseSmiList(text: string): ListedGpu[] | null {
  const gpus: ListedGpu[] = [];
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '') continue;
    const gpu = GPU_LINE.exec(line);
    const mig = MIG_LINE.exec(line);
    const last = gpus.at(-1);
    if (gpu) gpus.push({ index: Number(gpu[1]), name: gpu[2] as string, uuid: gpu[3] as string, migDevices: [] });
    else if (mig && last)
      last.migDevices.push({ profile: mig[1] as string, index: Number(mig[2]), uuid: mig[3] as string });
    else return null;
  }
  return gpus.length === 0 ? null : gpus;
}
