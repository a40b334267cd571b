import { describe, expect, it } from 'vitest';
import { hasPromisedMemory, isSameGpuModel } from '../../domain/gpu-model.ts';

describe('a GPU reported by the driver', () => {
  it.each([
    ['RTX 4090', 'NVIDIA GeForce RTX 4090'],
    ['H100 SXM', 'NVIDIA H100 80GB HBM3'],
    ['H100 PCIE', 'NVIDIA H100 PCIe'],
    ['H100 NVL', 'NVIDIA H100 NVL'],
    ['H200', 'NVIDIA H200'],
    ['A100 PCIE', 'NVIDIA A100-PCIE-40GB'],
    ['A100 SXM4', 'NVIDIA A100-SXM4-80GB'],
    ['A100 PCIE', 'NVIDIA A100 80GB PCIe'],
    ['L40S', 'NVIDIA L40S'],
    ['RTX 4080S', 'NVIDIA GeForce RTX 4080 SUPER'],
    ['RTX 4070S Ti', 'NVIDIA GeForce RTX 4070 Ti SUPER'],
    ['RTX 3080 Ti', 'NVIDIA GeForce RTX 3080 Ti'],
    ['RTX 4090D', 'NVIDIA GeForce RTX 4090 D'],
    ['RTX 6000Ada', 'NVIDIA RTX 6000 Ada Generation'],
    ['RTX A6000', 'NVIDIA RTX A6000'],
    ['Q RTX 8000', 'Quadro RTX 8000'],
    ['RTX PRO 6000 WS', 'NVIDIA RTX PRO 6000 Blackwell Workstation Edition'],
    ['RTX PRO 6000 S', 'NVIDIA RTX PRO 6000 Blackwell Server Edition'],
    ['Tesla T4', 'Tesla T4'],
    ['Tesla V100', 'Tesla V100-SXM2-16GB'],
    ['geforcertx4090-pcie-24gb', 'NVIDIA GeForce RTX 4090'],
    ['GTX 1080 Ti', 'NVIDIA GeForce GTX 1080 Ti'],
  ])('%s is kept by %s', (promised, reported) => expect(isSameGpuModel(promised, reported)).toBe(true));

  it.each([
    ['RTX 4090', 'NVIDIA GeForce RTX 4090 D'],
    ['RTX 4090', 'NVIDIA GeForce RTX 3090'],
    ['RTX 4090', 'NVIDIA GeForce RTX 4090 Laptop GPU'],
    ['RTX 4080', 'NVIDIA GeForce RTX 4080 SUPER'],
    ['RTX 4070 Ti', 'NVIDIA GeForce RTX 4070 Ti SUPER'],
    ['RTX 6000Ada', 'Quadro RTX 6000'],
    ['RTX 6000Ada', 'NVIDIA RTX PRO 6000 Blackwell Workstation Edition'],
    ['L40S', 'NVIDIA L40'],
    ['A10', 'NVIDIA A10G'],
    ['B200', 'NVIDIA H100 80GB HBM3'],
    ['H100 SXM', 'NVIDIA H100 PCIe'],
    ['A100 SXM4', 'NVIDIA A100-PCIE-40GB'],
    ['H100 SXM', 'NVIDIA H200'],
    ['NVIDIA', 'NVIDIA'],
    ['RTX 4090', ''],
  ])('%s is not kept by %s', (promised, reported) => expect(isSameGpuModel(promised, reported)).toBe(false));
});

describe('GPU memory', () => {
  it.each([
    [24, 24564],
    [80, 81559],
    [48, 46068],
    [16, 16376],
    [16, 15360],
    [192, 183359],
    [141, 143771],
    [24, 81559],
  ])('of %d GiB is kept by %d MiB', (promised, reported) => expect(hasPromisedMemory(promised, reported)).toBe(true));

  it.each([
    [24, 16376],
    [80, 40960],
    [12, 10240],
    [94, 81559],
    [48, 24564],
  ])('of %d GiB is not kept by %d MiB', (promised, reported) =>
    expect(hasPromisedMemory(promised, reported)).toBe(false),
  );
});
