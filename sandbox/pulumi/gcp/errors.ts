/** How the GCP provider says that Google refused. */
import { CloudError } from '../cloud-error.ts';

/** `reason`: Google's own word, such as `notFound`. */
export function gcpError(what: string, status: number, reason: string, message: string): CloudError {
  return new CloudError(reason, `${what}: googleapi: Error ${status}: ${message}, ${reason}`);
}

/** An operation that was accepted and ended with an error. */
export function gcpOperationError(what: string, code: string, message: string): CloudError {
  return new CloudError(code, `Error waiting for ${what}: ${code}: ${message}`);
}
