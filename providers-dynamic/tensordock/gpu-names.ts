/**
 * TensorDock's GPU names as canonical models: "geforcertx4090-pcie-24gb" is the RTX 4090 with 24 GiB. Display names
 * ("NVIDIA GeForce RTX 4090 PCIe 24GB") are read too. The spelling is the one that the other marketplaces use, so that one
 * request matches all of them.
 */

export interface GpuModel {
  gpu: string;
  /** Of one GPU; null: the name does not tell. */
  memoryGib: number | null;
}

/** Chips that are sold in several form factors under one name; elsewhere the form factor says nothing new. */
const FORM_FACTORS: Record<string, Record<string, string>> = {
  a100: { sxm: 'A100 SXM4', pcie: 'A100 PCIE' },
  h100: { sxm: 'H100 SXM', pcie: 'H100 PCIE', nvl: 'H100 NVL' },
  h200: { sxm: 'H200', nvl: 'H200 NVL' },
};
const TESLA = /^(?:v100s?|t4|p100|p40|p4|k80|m40|m60)$/;

export function readGpuModel(name: string): GpuModel {
  let memoryGib: number | null = null;
  let form: string | null = null;
  const words: string[] = [];
  for (const word of name.toLowerCase().split(/[^a-z0-9]+/)) {
    const memory = /^(\d{1,3})gb$/.exec(word);
    const formFactor = /^(pcie|sxm|nvl)\d?$/.exec(word);
    if (memory) memoryGib = Number(memory[1]);
    else if (formFactor) form = formFactor[1] as string;
    else if (word !== '' && word !== 'nvidia') words.push(word);
  }
  return { gpu: modelName(words.join(''), form) ?? words.join(' ').toUpperCase(), memoryGib };
}

/** null: a kind of name that is not known here. */
function modelName(chip: string, form: string | null): string | null {
  const model = chip.replace(/^(?:geforce|tesla)/, '');
  const isQuadro = model.startsWith('quadro');
  const rtx = /^(?:quadro)?(rtx|gtx)(a?\d{3,4})(ti)?(super)?(d)?(ada)?$/.exec(model);
  if (rtx) {
    const [, line = '', number = '', ti, isSuper, d, ada] = rtx;
    const suffix = [isSuper && 'S', d && 'D', ada && 'Ada', ti && ' Ti'].filter(Boolean).join('');
    return `${isQuadro ? 'Q ' : ''}${line.toUpperCase()} ${number.toUpperCase()}${suffix}`;
  }
  const pro = /^rtxpro(\d{4})(?:blackwell)?(server|s|workstation|ws)?(?:edition)?$/.exec(model);
  if (pro) {
    const edition = pro[2] === undefined ? '' : pro[2].startsWith('s') ? ' S' : ' WS';
    return `RTX PRO ${pro[1]}${edition}`;
  }
  if (TESLA.test(model)) return `Tesla ${model.toUpperCase()}`;
  const known = FORM_FACTORS[model]?.[form ?? ''];
  if (known !== undefined) return known;
  return /^(?:gh|[abhl])\d{1,3}[sg]?$/.test(model) ? model.toUpperCase() : null;
}
