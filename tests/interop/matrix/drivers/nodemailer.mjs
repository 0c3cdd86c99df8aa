// nodemailer, with a message that it composes.
import {createRequire} from 'node:module';
import {readFileSync} from 'node:fs';
import {createInterface} from 'node:readline';

const {createTransport} = createRequire(`${process.env.INTEROP_WORK}/node/`)('nodemailer');
const ca = readFileSync(process.env.INTEROP_CA);

for await (const line of createInterface({input: process.stdin})) {
  const [tls, port, user, from, author, to, bcc, subject, text, attachment] = line.split('\t');
  const transport = createTransport({
    host: 'localhost', port: Number(port), secure: tls === 'implicit', ignoreTLS: tls === 'none',
    requireTLS: tls === 'starttls', tls: {ca}, auth: user ? {user, pass: 'secret'} : undefined,
  });
  let told;
  try {
    const sent = await transport.sendMail({
      envelope: {from, to: `${to},${bcc}`.split(',').filter(address => address)},
      from: author, to, bcc, subject, text: readFileSync(text, 'utf8'),
      attachments: attachment ? [{filename: 'data.bin', content: readFileSync(attachment)}] : [],
    });
    told = `sent\t${sent.response} rejected: ${sent.rejected}`;
  } catch (error) {
    told = `failed\t${error.code} ${error.message}`;
  }
  console.log(told.replaceAll('\n', ' '));
}
