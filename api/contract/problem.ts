/** The body of every error: RFC 9457 `application/problem+json`. `code` is one of the error table (docs/errors.md). */
import { z } from 'zod';
import { ERROR_CODES, type ErrorCode } from '../../domain/error-table.ts';

export const PROBLEM_TYPE = 'application/problem+json';

export const problem = z
  .looseObject({
    type: z
      .string()
      .meta({ description: 'Names the code as a URI reference', example: '/api/v1/docs/errors#not_found' }),
    title: z.string(),
    status: z.int(),
    code: z.enum(ERROR_CODES as [ErrorCode, ...ErrorCode[]]),
    detail: z.string(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
    requestId: z.string(),
  })
  .meta({
    id: 'Problem',
    description: 'What went wrong. Codes are listed in docs/errors.md; further members are facts.',
  });
export type Problem = z.infer<typeof problem>;
