/**
 * The host runtime: what dynamic resources of hosts of ours need from whoever runs the engine. The operation child injects one that asks
 * the control plane; under plain `pulumi up` entry.ts makes one from the environment. The resource code is the same in both.
 */
export interface HostJoin {
  /** Where the host's agent reports. */
  url: string;
  /** The node that the host is. */
  nodeId: string;
  /** One-time; null: none was asked for. */
  token: string | null;
  /** An agent that the host carries already belongs to a node that is no more. */
  mayTakeOver: boolean;
}

/** How the agent of a standby joins. */
export interface StandbyJoin {
  nodeId: string;
  /** One-time. */
  token: string;
}

/** A host as the control plane is told of it. */
export interface JoiningHost {
  /** Its name in the stack. */
  host: string;
  address: string;
  port: number;
  user: string;
  hostKeySha256: string;
  credentialRef: string;
  labels: Record<string, string>;
}

export interface HostRuntime {
  /**
   * The private key that `credentialRef` names. It is never kept in the state, printed or put into an error.
   * Throws ProviderError `auth` where there is none.
   */
  sshPrivateKey(credentialRef: string): Promise<string>;

  /**
   * How the agent of this host joins; null: there is no control plane, and the host is only looked at.
   * @param carries the node whose agent it has already
   */
  join(host: JoiningHost, ask: { wantsToken: boolean; carries: string | null }): Promise<HostJoin | null>;

  /** Who the standby of this stack is, with a fresh token; null: there is no control plane, or it knows of none. */
  joinStandby(): Promise<StandbyJoin | null>;

  /** The control plane's install.sh. Throws ProviderError `retryable`. */
  installScript(url: string): Promise<string>;

  /** A person said that this host is dead for ever: what cannot be uninstalled is let go. */
  mayForget(host: string): Promise<boolean>;

  /** Nothing of ours is on the host any more, or nobody will ever know. */
  removed(host: string): Promise<void>;

  /** Aborted when the update is canceled. */
  signal(): AbortSignal;

  /** For people; no secrets. */
  progress(host: string, message: string): void;
}
