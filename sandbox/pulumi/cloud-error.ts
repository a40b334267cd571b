/** A refusal by a simulated cloud. The text is what the engine shows, in the words of the real provider. */
export class CloudError extends Error {
  /** The cloud's own code, such as `InvalidSubnet.Conflict`. */
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.name = 'CloudError';
    this.code = code;
  }
}

/** It was made (or changed), but not all is as wanted: the engine keeps it with these reasons and runs an update next time. */
export class UnfinishedError extends CloudError {
  readonly id: string;
  readonly properties: Record<string, unknown>;
  readonly inputs: Record<string, unknown>;

  constructor(
    code: string,
    message: string,
    kept: { id: string; properties: Record<string, unknown>; inputs: Record<string, unknown> },
  ) {
    super(code, message);
    this.name = 'UnfinishedError';
    this.id = kept.id;
    this.properties = kept.properties;
    this.inputs = kept.inputs;
  }
}
