/** Which inputs differ, by path, and whether any of them means a new resource. */
import { hasUnknown, isObject, isSame, type Properties } from './properties.ts';

export type ChangeKind = 'add' | 'delete' | 'update';

export interface InputChange {
  /** `tags.owner`, `subnetIds[1]`. */
  path: string;
  kind: ChangeKind;
  isReplacing: boolean;
}

/**
 * `replaceOn`: paths without indices (`networkInterfaces.network`); one stands for everything below it too. `ignored`: paths that the program ignores.
 * `isSilent`: values that the vendor takes for the same.
 */
export function diffInputs(
  olds: Properties,
  news: Properties,
  {
    replaceOn,
    ignored,
    isSilent,
  }: { replaceOn: readonly string[]; ignored: readonly string[]; isSilent?: SilentChange },
): InputChange[] {
  const changes: InputChange[] = [];
  const note = (path: string, kind: ChangeKind, before: unknown, after: unknown): void => {
    const plain = path.replaceAll(/\[\d+\]/g, '');
    if (ignored.some((one) => isWithin(plain, one.replaceAll(/\[[^\]]*\]/g, '')))) return;
    if (isSilent?.(plain, before, after) === true) return;
    changes.push({ path, kind, isReplacing: replaceOn.some((one) => isWithin(plain, one) || isWithin(one, plain)) });
  };
  compareObjects(olds, news, '', note);
  return changes;
}

export type SilentChange = (path: string, before: unknown, after: unknown) => boolean;

function isWithin(path: string, outer: string): boolean {
  return path === outer || path.startsWith(`${outer}.`);
}

type Note = (path: string, kind: ChangeKind, before: unknown, after: unknown) => void;

function compareObjects(olds: Properties, news: Properties, path: string, note: Note): void {
  for (const key of new Set([...Object.keys(olds), ...Object.keys(news)])) {
    if (key.startsWith('__')) continue;
    compare(olds[key], news[key], path === '' ? key : `${path}.${key}`, note);
  }
}

function compare(before: unknown, after: unknown, path: string, note: Note): void {
  if (isSame(before, after) && !hasUnknown(after)) return;
  if (isMissing(before) && isMissing(after)) return;
  if (isMissing(before)) note(path, 'add', before, after);
  else if (isMissing(after)) note(path, 'delete', before, after);
  else if (isObject(before) && isObject(after)) compareObjects(before, after, path, note);
  else if (Array.isArray(before) && Array.isArray(after)) {
    const length = Math.max(before.length, after.length);
    for (let index = 0; index < length; index++) compare(before[index], after[index], `${path}[${index}]`, note);
  } else note(path, 'update', before, after);
}

/** Providers keep an empty list, map or nothing at all for the same. */
function isMissing(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (Array.isArray(value)) return value.length === 0;
  return isObject(value) && Object.keys(value).length === 0;
}
