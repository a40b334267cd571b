/**
 * Where sealed values lie: every column of the database, or member of a JSON column, that holds some, and the text that binds a value to its
 * row. An envelope seals to nothing else, so a new sealed column begins with a line here; db/sealed-places.ts does not compile until it knows
 * how its rows are found, and a rotation of the master key covers it. The texts are for ever: what was sealed opens with them alone.
 */
const IDENTITIES = {
  'attempts.agent_sealed': (attemptId) => `attempts.agent/${attemptId}`,
  'cluster_access.access_sealed': (clusterId) => `cluster_access.access/${clusterId}`,
  'cluster_access.token_sealed': (clusterId) => `cluster_access.token/${clusterId}`,
  'cluster_enrolments.token_sealed': (clusterId) => `cluster_enrolments.token/${clusterId}`,
  'cluster_joins.proof_sealed': (clusterId) => `cluster_joins.proof/${clusterId}`,
  'credentials.sealed': (credentialId) => `credentials/${credentialId}`,
  'instances.request.envSealed': (stackId) => `instances.request.env/${stackId}`,
  'node_orders.secrets_sealed': (orderId) => `node_orders/${orderId}/secrets`,
  // What is to become the cluster's access once it has proved itself.
  'operations.input.accessSealed': (clusterId) => `cluster_access.access/${clusterId}`,
  'pods.secrets_sealed': (podId) => `pods/${podId}/secrets`,
  'sealed_secrets.sealed': (name) => `sealed_secrets/${name}`,
  'sessions.ssh_private_key_sealed': (sessionId) => `sessions.ssh_private_key/${sessionId}`,
  'state_stacks.key_sealed': (stackUuid) => `state_stacks.key/${stackUuid}`,
  'webhooks.previous_secret_sealed': (webhookId) => `webhooks.secret/${webhookId}`,
  'webhooks.secret_sealed': (webhookId) => `webhooks.secret/${webhookId}`,
  'workspaces.password_sealed': (instanceId) => `workspaces/${instanceId}/password`,
} satisfies Record<string, (owner: string) => string>;

/** `table.column`, or `table.column.member` of a JSON column. */
export type SealedPlace = keyof typeof IDENTITIES;

declare const isIdentity: unique symbol;
/** Only of {@link identityAt}. */
export type SealedIdentity = string & { readonly [isIdentity]: true };

/** @param owner what the value belongs to: mostly the id of its row */
export function identityAt(place: SealedPlace, owner: string): SealedIdentity {
  return IDENTITIES[place](owner) as SealedIdentity;
}
