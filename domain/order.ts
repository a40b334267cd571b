/**
 * An order: one thing that the control plane asks a node's agent to do once. It has an id, a report of progress, a deadline and an end.
 * What a node shall be all the time (its pods) is no order.
 *
 *   queued     the agent has not said that it began → running | done | failed | canceled
 *   running    the agent does it → done | failed | canceled
 *   done, failed, canceled   the end; what the agent says later changes nothing
 */
export const ORDER_STATUSES = ['queued', 'running', 'done', 'failed', 'canceled'] as const;
export type OrderStatus = (typeof ORDER_STATUSES)[number];

/** What an agent may say of one. */
export const ORDER_REPORT_STATUSES = ['running', 'done', 'failed'] as const;
export type OrderReportStatus = (typeof ORDER_REPORT_STATUSES)[number];

export const ORDER_KINDS = ['take_snapshot', 'restore_snapshot', 'stream_pod_logs'] as const;
export type OrderKind = (typeof ORDER_KINDS)[number];

/** Of a result in JSON. What is larger travels another way. */
export const MAX_ORDER_RESULT_BYTES = 16_384;

export const ORDER_ERROR_CODE = /^[a-z][a-z0-9_]{0,59}$/;
