/** How the azure-native provider says that Azure refused. */
import { CloudError } from '../cloud-error.ts';

export function azureError(status: number, code: string, message: string): CloudError {
  return new CloudError(code, `Status=${status} Code="${code}" Message="${message}"`);
}
