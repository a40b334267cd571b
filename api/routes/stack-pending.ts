/** Routes of interrupted creates of stacks that nothing can tell: what there is to decide, and deciding it. */
import { MusterError } from '../../domain/error-table.ts';
import { refuseBesideUpdate } from '../../db/accept-stack.ts';
import { saveStackPending } from '../../db/stacks.ts';
import { decidePendingBody, stackPending } from '../contract/stacks.ts';
import { route, type Route } from '../route.ts';
import { auditStack, holdStack, requireStack, stackParams } from '../stack-view.ts';

const AREA = 'stacks';

export const stackPendingRoutes: Route[] = [
  route({
    method: 'get',
    path: '/stacks/:id/pending',
    access: 'read',
    area: AREA,
    summary: 'Creates that were interrupted and that a person has to decide',
    description: 'As of the last update that did not begin because of them, with what was decided since.',
    params: stackParams,
    replies: { 200: stackPending },
    handle: async (call) => ({ status: 200, body: { items: (await requireStack(call)).pending ?? [] } }),
  }),
  route({
    method: 'post',
    path: '/stacks/:id/pending/decide',
    access: 'change',
    area: AREA,
    summary: 'Say what became of interrupted creates',
    description:
      'Carried out by the next update: what is imported must be there, and belongs to the stack from then on; what is cleared is made anew. A later decision replaces an earlier one.',
    params: stackParams,
    body: decidePendingBody,
    replies: { 200: stackPending },
    problems: ['conflict'],
    handle: async (call) => {
      const { body, actor, deps } = call;
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await holdStack(tx, call);
        // While one runs another create of the same name may begin: that one was not meant.
        await refuseBesideUpdate(tx, row);
        const pending = row.pending ?? [];
        const unknown = body.decisions.flatMap(({ urn }, index) =>
          pending.some((one) => one.urn === urn)
            ? []
            : [{ path: `decisions.${index}.urn`, message: `is no pending create of this stack: ${urn}` }],
        );
        if (unknown.length > 0)
          throw new MusterError('invalid_request', 'what is not pending cannot be decided', { errors: unknown });
        const said = new Map(body.decisions.map(({ urn, decision }) => [urn, decision]));
        const items = pending.map((one) => ({ ...one, decision: said.get(one.urn) ?? one.decision }));
        await saveStackPending(tx, row.id, items);
        await auditStack(tx, actor, row, 'stack.decide_pending', { decisions: body.decisions });
        return { status: 200, body: { items } };
      });
    },
  }),
];
