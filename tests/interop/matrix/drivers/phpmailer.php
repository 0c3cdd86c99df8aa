<?php
// PHPMailer, which WordPress and most PHP programs use.
require '/usr/share/php/libphp-phpmailer/autoload.php';

use PHPMailer\PHPMailer\PHPMailer;

while (($line = fgets(STDIN)) !== false) {
    [$tls, $port, $user, $from, $author, $to, $bcc, $subject, $text, $attachment] = explode("\t", rtrim($line, "\n"));
    $mail = new PHPMailer(true);
    try {
        $mail->isSMTP();
        $mail->Host = 'localhost';
        $mail->Port = (int) $port;
        $mail->Timeout = 60;
        $mail->SMTPSecure = ['none' => '', 'starttls' => 'tls', 'implicit' => 'ssl'][$tls];
        $mail->SMTPAutoTLS = false;
        $mail->SMTPOptions = ['ssl' => ['cafile' => getenv('INTEROP_CA')]];
        $mail->SMTPAuth = $user !== '';
        $mail->Username = $user;
        $mail->Password = 'secret';
        $mail->CharSet = 'utf-8';
        // With the third argument, this address does not become the envelope sender.
        $mail->setFrom($author, '', false);
        $mail->Sender = $from;
        foreach (explode(',', $to) as $address) {
            $mail->addAddress($address);
        }
        foreach (array_filter(explode(',', $bcc)) as $address) {
            $mail->addBCC($address);
        }
        $mail->Subject = $subject;
        $mail->Body = file_get_contents($text);
        if ($attachment !== '') {
            $mail->addAttachment($attachment, 'data.bin');
        }
        $mail->send();
        $told = "sent\t";
    } catch (Exception $error) {
        $told = "failed\t" . $error->getMessage();
    }
    // Otherwise it stays connected until the next message.
    $mail->smtpClose();
    echo preg_replace("/[\r\n]+/", " ", $told), "\n";
}
