/**
 * What `nvidia-smi -q -x` prints, as far as we want it. The small parser knows elements, text and the five built-in entities; a document
 * type is passed over, so nothing is ever loaded for it.
 */
import { readAmount, readText } from './smi-value.ts';

export interface XmlElement {
  name: string;
  attributes: Readonly<Record<string, string>>;
  children: XmlElement[];
  text: string;
}

export interface XmlMigDevice {
  index: number;
  memoryTotalMib: number | null;
  memoryUsedMib: number | null;
}

export interface XmlGpu {
  busId: string | null;
  /** Raw values under the names that the CSV query has for them. */
  fields: Readonly<Record<string, string>>;
  /** null: not told. */
  migDevices: XmlMigDevice[] | null;
}

export interface XmlReport {
  driverVersion: string | null;
  gpus: XmlGpu[];
}

const MAX_LENGTH = 8_000_000;
const MAX_DEPTH = 64;
const TOKEN =
  /<\?[\s\S]*?\?>|<!--[\s\S]*?-->|<!DOCTYPE[^>[]*(?:\[[^\]]*\])?[^>]*>|<(\/?)([A-Za-z_][\w.:-]*)((?:\s+[\w.:-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>|([^<]+)/g;
const ENTITIES: Readonly<Record<string, string>> = {
  '&lt;': '<',
  '&gt;': '>',
  '&amp;': '&',
  '&quot;': '"',
  '&apos;': "'",
};

/** null: it is no such report, so nothing is known. */
export function parseSmiXml(text: string): XmlReport | null {
  const root = parseXml(text);
  if (root?.name !== 'nvidia_smi_log') return null;
  const gpus = root.children.filter(({ name }) => name === 'gpu').map((gpu, index) => readGpu(gpu, index));
  return gpus.length === 0 ? null : { driverVersion: readText(at(root, 'driver_version')), gpus };
}

/** null: not well-formed, too long or too deep. */
export function parseXml(text: string): XmlElement | null {
  if (text.length > MAX_LENGTH) return null;
  const holder: XmlElement = { name: '', attributes: {}, children: [], text: '' };
  const open = [holder];
  let end = 0;
  for (const token of text.matchAll(TOKEN)) {
    if (token.index !== end) return null;
    end += token[0].length;
    const current = open.at(-1) as XmlElement;
    const [, closing, name, attributes, selfClosing, words] = token;
    if (words !== undefined) current.text += words;
    if (name === undefined) continue;
    if (closing === '/') {
      if (open.length < 2 || current.name !== name) return null;
      open.pop();
      continue;
    }
    const element: XmlElement = { name, attributes: readAttributes(attributes ?? ''), children: [], text: '' };
    current.children.push(element);
    if (selfClosing !== '/') open.push(element);
    if (open.length > MAX_DEPTH) return null;
  }
  const isWhole = end === text.length && open.length === 1 && holder.children.length === 1 && holder.text.trim() === '';
  return isWhole ? (holder.children[0] as XmlElement) : null;
}

function readAttributes(text: string): Record<string, string> {
  const pairs = [...text.matchAll(/([\w.:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g)];
  return Object.fromEntries(pairs.map(([, name, double, single]) => [name, decode(double ?? single ?? '')]));
}

function readGpu(gpu: XmlElement, index: number): XmlGpu {
  const power = ['gpu_power_readings', 'power_readings'];
  const first = (parents: readonly string[], names: readonly string[]) =>
    parents.flatMap((parent) => names.map((name) => at(gpu, parent, name))).find((value) => value !== undefined);
  const fields: Record<string, string | undefined> = {
    index: String(index),
    uuid: at(gpu, 'uuid'),
    name: at(gpu, 'product_name'),
    'pci.bus_id': gpu.attributes['id'],
    'memory.total': at(gpu, 'fb_memory_usage', 'total'),
    'memory.used': at(gpu, 'fb_memory_usage', 'used'),
    'memory.free': at(gpu, 'fb_memory_usage', 'free'),
    'utilization.gpu': at(gpu, 'utilization', 'gpu_util'),
    'utilization.memory': at(gpu, 'utilization', 'memory_util'),
    'temperature.gpu': at(gpu, 'temperature', 'gpu_temp'),
    'temperature.memory': at(gpu, 'temperature', 'memory_temp'),
    'power.draw': first(power, ['power_draw', 'average_power_draw', 'instant_power_draw']),
    'power.limit': first(power, ['current_power_limit', 'power_limit']),
    pstate: at(gpu, 'performance_state'),
    'ecc.errors.uncorrected.volatile.total': sumEcc(gpu),
    'mig.mode.current': at(gpu, 'mig_mode', 'current_mig'),
    'remapped_rows.pending': at(gpu, 'remapped_rows', 'remapped_row_pending'),
    'remapped_rows.failure': at(gpu, 'remapped_rows', 'remapped_row_failure'),
    gpu_recovery_action: at(gpu, 'gpu_recovery_action'),
  };
  return {
    busId: readText(gpu.attributes['id']),
    fields: Object.fromEntries(
      Object.entries(fields).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ),
    migDevices: readMigDevices(gpu),
  };
}

/** DTD 13 tells parity and SEC-DED errors apart; before, there was one count. */
function sumEcc(gpu: XmlElement): string | undefined {
  const names = [
    'sram_uncorrectable',
    'sram_uncorrectable_parity',
    'sram_uncorrectable_secded',
    'dram_uncorrectable',
    'double_bit_total',
  ];
  const block = child(child(gpu, 'ecc_errors'), 'volatile');
  const counts = (block?.children ?? []).flatMap((one) => (names.includes(one.name) ? [readAmount(textOf(one))] : []));
  const known = counts.filter((count) => count !== null);
  return known.length === 0 ? undefined : String(known.reduce((sum, count) => sum + count, 0));
}

function readMigDevices(gpu: XmlElement): XmlMigDevice[] | null {
  const block = child(gpu, 'mig_devices');
  if (block === undefined) return null;
  return block.children.flatMap((device) => {
    const index = readAmount(at(device, 'index'));
    if (device.name !== 'mig_device' || index === null) return [];
    const memoryTotalMib = readAmount(at(device, 'fb_memory_usage', 'total'));
    return [{ index, memoryTotalMib, memoryUsedMib: readAmount(at(device, 'fb_memory_usage', 'used')) }];
  });
}

function child(element: XmlElement | undefined, name: string): XmlElement | undefined {
  return element?.children.find((one) => one.name === name);
}

/** Text at the end of a path of names; undefined where the path ends early. */
function at(element: XmlElement, ...path: string[]): string | undefined {
  const found = path.reduce<XmlElement | undefined>((current, name) => child(current, name), element);
  return found === undefined ? undefined : textOf(found);
}

function textOf(element: XmlElement): string {
  return decode(element.text).trim();
}

function decode(text: string): string {
  return text.replace(/&(?:lt|gt|amp|quot|apos);/g, (entity) => ENTITIES[entity] as string);
}
