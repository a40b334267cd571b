/** RunPod's refusals: problem documents of RFC 9457, without a machine code. */
import type { HttpReply } from '../http-listener.ts';
import { VendorRefusal } from '../rental/api.ts';

const TITLES: Record<number, string> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  402: 'Payment Required',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  409: 'Conflict',
  413: 'Content Too Large',
  422: 'Unprocessable Entity',
  429: 'Too Many Requests',
  503: 'Service Unavailable',
};

export function problemBody(status: number, detail: string, errors?: readonly string[]): Record<string, unknown> {
  return { title: TITLES[status] ?? 'Error', status, detail, ...(errors === undefined ? {} : { errors }) };
}

export function problem(
  status: number,
  detail: string,
  extra: { errors?: readonly string[]; headers?: Record<string, string> } = {},
): HttpReply {
  return {
    status,
    body: problemBody(status, detail, extra.errors),
    headers: { 'content-type': 'application/problem+json', ...extra.headers },
  };
}

export function refuse(status: number, detail: string, errors?: readonly string[]): VendorRefusal {
  return new VendorRefusal(problem(status, detail, errors === undefined ? {} : { errors }));
}

export function podNotFound(): VendorRefusal {
  return refuse(404, 'pod not found');
}
