/** How the AWS provider says that AWS refused. */
import { CloudError } from '../cloud-error.ts';

/** `call`: `EC2 CreateSubnet`; `what`: `creating EC2 Subnet`. */
export function awsError(what: string, call: string, status: number, code: string, message: string): CloudError {
  const [service, operation] = call.split(' ');
  const text = `${what}: operation error ${service}: ${operation}, https response error StatusCode: ${status}, api error ${code}: ${message}`;
  return new CloudError(code, text);
}
