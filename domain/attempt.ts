/**
 * An attempt: one purchase, our row for one rented machine. It owns label, providerInstanceId, price, status and accrual.
 * At most one machine per label; an attempt moves on to its next offer only after a definite refusal.
 *
 * States, how each is entered and left:
 *   reserved    label and first candidate committed, nothing sent → buying | gone (never sent)
 *   buying      a purchase may have reached the vendor → bought | destroying | gone (all candidates definitely refused)
 *   bought      ours, booting → ready | destroying | lost
 *   ready       verified → destroying | lost
 *   lost        listing says not-found, nobody destroyed it → destroying
 *   destroying  to be removed, may bill → gone (the provider said not-found)
 *   gone        nothing at the provider carries this label
 */
export const ATTEMPT_STATUSES = ['reserved', 'buying', 'bought', 'ready', 'lost', 'destroying', 'gone'] as const;
export type AttemptStatus = (typeof ATTEMPT_STATUSES)[number];

export const ATTEMPT_NEXT: Record<AttemptStatus, readonly AttemptStatus[]> = {
  reserved: ['buying', 'destroying', 'gone'],
  buying: ['bought', 'destroying', 'gone'],
  bought: ['ready', 'destroying', 'lost'],
  ready: ['destroying', 'lost'],
  lost: ['destroying'],
  destroying: ['gone'],
  gone: [],
};

/** Whether the stack's program contains a resource for this attempt: what is destroying or gone is left out of it. */
export function isWanted(status: AttemptStatus): boolean {
  return status === 'reserved' || status === 'buying' || status === 'bought' || status === 'ready';
}

/** Whether a machine may exist at the provider for this attempt. */
export function mayExist(status: AttemptStatus): boolean {
  return status !== 'gone' && status !== 'reserved';
}
