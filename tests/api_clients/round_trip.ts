// List, book, reschedule and cancel with a generated client, then read an error by its type.
// Compiled with `tsc --strict` against the types that openapi-typescript has made of the document.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

type Schemas = components["schemas"];

const [baseUrl, token, customer, vehicle, date] = process.argv.slice(2) as [string, string, string, string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function fail(what: string, error: unknown): never {
  throw new Error(`${what}: ${JSON.stringify(error)}`);
}

const listed = await client.GET("/appointments/", { params: { query: { page_size: 5, status: ["pending"] } } });
const page: Schemas["AppointmentPage"] = listed.data ?? fail("list", listed.error);

const booking: Schemas["AppointmentCreate"] = {
  customer_id: customer,
  vehicle_id: vehicle,
  appointment_type: "maintenance",
  scheduled_date: date,
  scheduled_time: "10:00",
};
const booked = await client.POST("/appointments/", { body: booking });
const appointment: Schemas["AppointmentDetail"] = booked.data ?? fail("book", booked.error);
const path = { appointment_id: appointment.id };

const moved = await client.POST("/appointments/{appointment_id}/reschedule/", {
  params: { path },
  body: { new_date: date, new_time: "14:00" },
});
const action: Schemas["Action"] = moved.data ?? fail("reschedule", moved.error);

const reason: Schemas["Reason"] = { reason: "No longer needed" };
const cancelled = await client.POST("/appointments/{appointment_id}/cancel/", { params: { path }, body: reason });
const status: Schemas["Action"]["status"] = cancelled.data?.status ?? fail("cancel", cancelled.error);

const again = await client.POST("/appointments/{appointment_id}/cancel/", { params: { path }, body: {} });
const problem: Schemas["FieldOrRuleErrors"] | Schemas["Error"] = again.error ?? fail("cancel twice", again.data);

const nobody = createClient<paths>({ baseUrl });
const refused = await nobody.GET("/appointments/{appointment_id}/", { params: { path } });
const error: Schemas["Error"] = refused.error ?? fail("read without a token", refused.data);

console.log(
  JSON.stringify({
    listed: page.results.length,
    booked: appointment.customer_name,
    etag: booked.response.headers.get("ETag") !== null,
    moved_to: action.appointment.scheduled_time,
    cancelled: status,
    twice: [again.response.status, problem],
    without_token: [refused.response.status, error.detail],
  }),
);
