/** Orders about snapshots, as agents get them. */
export type {
  RepositoryRoute,
  RestoreSnapshotInput,
  RestoreSnapshotResult,
  SnapshotSecrets,
  TakeSnapshotInput,
  TakeSnapshotResult,
} from '../../domain/snapshots/orders.ts';
