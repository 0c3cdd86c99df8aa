import jakarta.activation.DataHandler;
import jakarta.mail.Authenticator;
import jakarta.mail.Message;
import jakarta.mail.MessagingException;
import jakarta.mail.PasswordAuthentication;
import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeBodyPart;
import jakarta.mail.internet.MimeMessage;
import jakarta.mail.internet.MimeMultipart;
import jakarta.mail.util.ByteArrayDataSource;
import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Properties;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Jakarta Mail, which Jenkins, Jira and most Java programs use. */
final class JakartaMail {
    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        var out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        var trust = trust();
        for (String line; (line = lines.readLine()) != null; ) {
            String told;
            try {
                send(line.split("\t", -1), trust);
                told = "sent\t";
            } catch (MessagingException error) {
                // A refused recipient is in the nested exceptions.
                var text = new StringBuilder("failed\t").append(error);
                for (Exception next = error.getNextException(); next instanceof MessagingException below; next = below.getNextException()) {
                    text.append(" / ").append(next);
                }
                told = text.toString();
            }
            out.println(told.replaceAll("[\r\n]+", " "));
        }
    }

    private static void send(String[] field, SSLContext trust) throws Exception {
        var settings = new Properties();
        settings.put("mail.smtp.host", "localhost");
        settings.put("mail.smtp.port", field[1]);
        settings.put("mail.smtp.from", field[3]);
        settings.put("mail.smtp.auth", String.valueOf(!field[2].isEmpty()));
        settings.put("mail.smtp.starttls.enable", String.valueOf(field[0].equals("starttls")));
        settings.put("mail.smtp.starttls.required", String.valueOf(field[0].equals("starttls")));
        settings.put("mail.smtp.ssl.enable", String.valueOf(field[0].equals("implicit")));
        settings.put("mail.smtp.ssl.checkserveridentity", "true");
        settings.put("mail.smtp.ssl.socketFactory", trust.getSocketFactory());
        // The default has no timeout.
        settings.put("mail.smtp.timeout", "60000");
        settings.put("mail.smtp.connectiontimeout", "60000");
        var session = Session.getInstance(settings, new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(field[2], "secret");
            }
        });
        var message = new MimeMessage(session);
        message.setFrom(new InternetAddress(field[4]));
        message.setRecipients(Message.RecipientType.TO, InternetAddress.parse(field[5]));
        message.setRecipients(Message.RecipientType.BCC, InternetAddress.parse(field[6]));
        message.setSubject(field[7], "utf-8");
        String text = Files.readString(Path.of(field[8]));
        if (field[9].isEmpty()) {
            message.setText(text, "utf-8");
        } else {
            var body = new MimeBodyPart();
            body.setText(text, "utf-8");
            var attachment = new MimeBodyPart();
            byte[] octets = Files.readAllBytes(Path.of(field[9]));
            attachment.setDataHandler(new DataHandler(new ByteArrayDataSource(octets, "application/octet-stream")));
            attachment.setFileName("data.bin");
            message.setContent(new MimeMultipart(body, attachment));
        }
        Transport.send(message);
    }

    private static SSLContext trust() throws Exception {
        var store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream pem = Files.newInputStream(Path.of(System.getenv("INTEROP_CA")))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        var managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(store);
        var context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);
        return context;
    }
}
