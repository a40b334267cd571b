/**
 * Finds out what became of a stack's pending creates at its clouds: asks what has to be asked (a preview of the look-up program), reads
 * every id that there can be (a refresh of a stack beside it that holds nothing else), and judges what was read. It changes nothing at the
 * clouds and nothing in the stack's own state.
 */
import { randomUUID } from 'node:crypto';
import { findPendingRule, judgeReading } from '../../domain/pending-creates/find-rule.ts';
import { LOOK_UP_KIND, type LookUpAnswer, type LookUpArgs } from '../../domain/pending-creates/look-up.ts';
import type { PendingDecision, UndecidedCreate } from '../../domain/pending-creates/decision.ts';
import type { Answer, CloudQuestion, PendingRule } from '../../domain/pending-creates/rule.ts';
import { ProviderError, type ProviderErrorKind } from '../../domain/provider-error.ts';
import { summarizeEngineError } from './classify-error.ts';
import type { RunRequest, RunResult } from './protocol.ts';
import type { StackResource, StackState } from '../../domain/state/stack-state.ts';
import type { FoundResource } from '../../domain/state/adopt.ts';
import type { LookUpCandidate, StateBackend } from './state-backend.ts';
import { UndecidedPending } from './undecided-pending.ts';

export interface LookUpTools {
  backend: StateBackend;
  /** Runs one update of the stack beside; its progress is nobody's. */
  run(request: Pick<RunRequest, 'runId' | 'update' | 'stackName' | 'program'>): Promise<RunResult>;
  /** Whether a cloud's "there is none" of this resource can be believed by now. */
  isSettled(urn: string): boolean;
}

interface Pending {
  resource: StackResource;
  rule: PendingRule;
}

/**
 * @param pending of cloud types
 * @param decisions of persons, by urn: what they say is not asked, but what is to be imported must be there
 * @returns what exists, by urn
 * @throws UndecidedPending naming each resource that a person has to decide; ProviderError for trouble that may pass by itself
 */
export async function findPendingCreates(
  tools: LookUpTools,
  stackName: string,
  { resources: known }: StackState,
  pending: readonly StackResource[],
  decisions: Readonly<Record<string, PendingDecision>> = {},
): Promise<Record<string, FoundResource>> {
  const undecided: UndecidedCreate[] = [];
  const decide = ({ urn, name, type }: StackResource, why: string, found: string[] = []): void =>
    void undecided.push({ urn, name, type, why, found });
  const imports = pending.flatMap((resource) => {
    const decision = decisions[resource.urn];
    return decision?.kind === 'import' ? [{ resource, id: decision.id }] : [];
  });
  const open = pending.filter(({ urn }) => decisions[urn] === undefined);
  const ruled = open.flatMap((resource): Pending[] => {
    const rule = findPendingRule(resource.type);
    if (!rule) decide(resource, 'nothing is known of how to find its type');
    return rule ? [{ resource, rule }] : [];
  });
  const answers = await askAll(tools, stackName, ruled);
  const candidates = ruled.flatMap(({ resource, rule }) => {
    const ids = rule.idsOf(resource.inputs, answers.of(resource, rule));
    if (ids === undefined) decide(resource, 'its inputs do not tell which it is');
    const taken = known.filter(({ type }) => type === resource.type).map(({ id }) => id);
    return (ids ?? []).filter((id) => !taken.includes(id)).map((id) => ({ urn: resource.urn, id }));
  });
  const wanted = imports.map(({ resource: { urn }, id }) => ({ urn, id }));
  const read = await readAll(tools, stackName, [...candidates, ...wanted]);
  const found: Record<string, FoundResource> = {};
  for (const { resource, rule } of ruled) {
    const made = read.filter(({ urn }) => urn === resource.urn);
    const [one] = made;
    const ids = made.map(({ id }) => id);
    if (made.length > 1) decide(resource, `there are ${ids.join(' and ')}`, ids);
    else if (one) takeOver(resource, rule, one);
    else if (!tools.isSettled(resource.urn)) unsettled(resource);
  }
  for (const { resource, id } of imports) {
    const one = read.find(({ urn }) => urn === resource.urn);
    const owner = known.find((other) => other.type === resource.type && other.id === id);
    if (owner) decide(resource, `${id} cannot be imported: it is ${owner.name} of this stack`);
    else if (one) takeOver(resource, findPendingRule(resource.type) ?? {}, one, true);
    else decide(resource, `${id} cannot be imported: there is none`);
  }
  if (undecided.length > 0) throw new UndecidedPending(undecided);
  return found;

  /** @param isDecided somebody says that it is it, whatever its tags say */
  function takeOver(
    resource: StackResource,
    { isUseless }: Pick<PendingRule, 'isUseless'>,
    { id, outputs }: Read,
    isDecided = false,
  ): void {
    const reading = judgeReading(resource.inputs, outputs);
    if (reading.kind === 'foreign' && !isDecided)
      decide(resource, `${id} exists and does not have the tags of this stack`, [id]);
    else if (reading.kind === 'cut_off') decide(resource, `${id} is ${reading.status} for good: remove it there`, [id]);
    else if (reading.kind === 'unfinished')
      throw new ProviderError('retryable', `${resource.name} (${id}) is still being made: ${reading.status}`);
    else found[resource.urn] = { id, outputs, ...(isUseless ? { isUseless } : {}) };
  }
}

function unsettled({ name, type }: StackResource): never {
  throw new ProviderError(
    'retryable',
    `the cloud knows no ${name} (${type}) yet, which is believed only after a while`,
  );
}

/** Each question once for each provider. */
async function askAll(tools: LookUpTools, stackName: string, pending: readonly Pending[]) {
  const asked = new Map<string, Map<string, CloudQuestion>>();
  for (const { resource, rule } of pending) {
    const question = rule.ask?.(resource.inputs);
    if (!question) continue;
    const reference = resource.provider ?? '';
    const own = asked.get(reference) ?? new Map<string, CloudQuestion>();
    asked.set(reference, own.set(JSON.stringify(question), question));
  }
  const told = asked.size === 0 ? [] : await runQuestions(tools, stackName, asked);
  const references = [...asked.keys()];
  return {
    of(resource: StackResource, rule: PendingRule): Answer {
      const question = rule.ask?.(resource.inputs);
      if (!question) return {};
      const provider = references.indexOf(resource.provider ?? '');
      const index = [...(asked.get(resource.provider ?? '')?.keys() ?? [])].indexOf(JSON.stringify(question));
      const answer = told[provider]?.[index] ?? { trouble: 'the engine gave no answer' };
      if ('trouble' in answer) throw trouble(`${question.token}: ${answer.trouble}`);
      return answer.value;
    },
  };
}

async function runQuestions(
  { backend, run }: LookUpTools,
  stackName: string,
  asked: ReadonlyMap<string, ReadonlyMap<string, CloudQuestion>>,
): Promise<LookUpAnswer[][]> {
  const providers: LookUpArgs['providers'] = [];
  for (const [reference, questions] of asked) {
    const inputs = await backend.readProvider(stackName, reference);
    if (!inputs) throw new ProviderError('invalid', `the state has no provider ${reference}: it cannot be asked`);
    providers.push({ package: packageOf(reference), inputs, questions: [...questions.values()] });
  }
  const beside = await backend.openLookUp(stackName, []);
  try {
    const program = { kind: LOOK_UP_KIND, args: { providers } satisfies LookUpArgs };
    const result = await run({ runId: randomUUID(), update: 'preview', stackName: beside, program });
    if (!result.isOk) throw trouble(summarizeEngineError(result.errorText ?? ''));
    return result.outputs.answers as LookUpAnswer[][];
  } finally {
    await backend.closeLookUp(stackName);
  }
}

/** `urn:pulumi:stack::muster::pulumi:providers:aws::name::id` → `aws` */
function packageOf(reference: string): string {
  return /pulumi:providers:([^:]+)::/.exec(reference)?.[1] ?? '';
}

interface Read {
  urn: string;
  id: string;
  outputs: Record<string, unknown>;
}

/** Those that exist. A single read that fails makes all of them unknown: nothing is assumed. */
async function readAll(
  { backend, run }: LookUpTools,
  stackName: string,
  candidates: readonly LookUpCandidate[],
): Promise<Read[]> {
  if (candidates.length === 0) return [];
  const beside = await backend.openLookUp(stackName, [...candidates]);
  try {
    const result = await run({ runId: randomUUID(), update: 'refresh', stackName: beside, program: null });
    if (!result.isOk) throw trouble(summarizeEngineError(result.errorText ?? ''));
    const there = (await backend.readState(beside))?.resources ?? [];
    return there.flatMap(({ name, id, outputs }) => {
      const candidate = candidates[Number(name.split('~').at(-1))];
      return candidate ? [{ urn: candidate.urn, id: id ?? candidate.id, outputs }] : [];
    });
  } finally {
    await backend.closeLookUp(stackName);
  }
}

/** Clouds have no common way to say why: their words decide, and what none of them fits may pass. */
function trouble(text: string): ProviderError {
  const kind: ProviderErrorKind =
    /AccessDenied|Authorization(Failed)?\b|Forbidden|Unauthori[sz]ed|credentials|\b40[13]\b/i.test(text)
      ? 'auth'
      : /Throttl|TooManyRequests|rate ?limit|\b429\b/i.test(text)
        ? 'rate_limited'
        : 'retryable';
  return new ProviderError(kind, `what an interrupted update made cannot be looked up: ${text}`);
}
