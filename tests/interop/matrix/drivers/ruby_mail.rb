# Ruby's mail gem, which Rails uses, over Net::SMTP.
require 'mail'

$stdout.sync = true
$stdin.set_encoding('utf-8')
$stdin.each_line do |line|
  tls, port, user, from, author, to, bcc, subject, text, attachment = line.chomp.split("\t", -1)
  begin
    mail = Mail.new(charset: 'UTF-8')
    mail.from = author
    mail.smtp_envelope_from = from
    mail.to = to.split(',')
    mail.bcc = bcc.split(',') unless bcc.empty?
    mail.subject = subject
    mail.body = File.read(text, encoding: 'utf-8')
    mail.add_file(filename: 'data.bin', content: File.binread(attachment)) unless attachment.empty?
    settings = { address: 'localhost', port: port.to_i, ca_file: ENV.fetch('INTEROP_CA'), enable_starttls_auto: false,
                 enable_starttls: tls == 'starttls', tls: tls == 'implicit' }
    settings.update(user_name: user, password: 'secret', authentication: 'plain') unless user.empty?
    mail.delivery_method(:smtp, settings)
    mail.deliver!
    told = "sent\t"
  rescue StandardError => error
    told = "failed\t#{error.class}: #{error.message}"
  end
  puts told.tr("\n", ' ')
end
